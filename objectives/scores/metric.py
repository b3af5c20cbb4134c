"""What all ready-made scores share: options, inputs of a model, and optional libraries."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypedDict

from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.measurement import Direction
from protege.objectives.quality.score import Score
from protege.spaces import BadInput, Student, Unsupported


class Options(TypedDict, total=False):
    """Options of every ready-made score; all but the last are those of `Score`.

    Attributes:
        name: Name of the column; by default that of the metric.
        limit: Worst allowed value.
        at_rungs: Whether students are scored at every rung.
        timeout_s: Maximum seconds of one call.
        unseen: Data of the same columns that the search never uses, for `Search.confirm`.
    """

    name: str
    limit: float | None
    at_rungs: bool
    timeout_s: float
    unseen: Data


class Columns(Options, total=False):
    """Options, and the columns of the inputs and their classes.

    Attributes:
        text: Column of the texts, by default ``text``.
        pair: Column of the second text, for models that read pairs.
        image: Column of the images, in place of texts.
        label: Column of the classes, by default ``label``.
    """

    text: str
    pair: str
    image: str
    label: str


def score(
    kind: str,
    metric: Callable[[Data], Callable[[Student], Any]],
    data: Data,
    direction: Direction = "maximize",
    **options: Unpack[Options],
) -> Score:
    """Return the score by a metric.

    Args:
        kind: Name of the metric, and of the column by default.
        metric: Returns the function for a data set.
        data: The data set.
        direction: Whether lower or higher values are better.
        options: See `Options`.
    """
    unseen = options.get("unseen")
    return Score(
        options.get("name", kind),
        metric(data),
        direction,
        options.get("limit"),
        at_rungs=options.get("at_rungs", False),
        unseen=None if unseen is None else metric(unseen),
        timeout_s=options.get("timeout_s", 600.0),
    )


def table_of(data: Data, options: Columns) -> Table:
    """Read inputs and labels."""
    image, label = options.get("image"), options.get("label", "label")
    text = options.get("text", "text") if image is None else None
    return Table.of(data, text=text, pair=options.get("pair"), image=image, label=label)


def plain(options: Columns) -> Options:
    """Return the options without the columns."""
    own: Any = {name: one for name, one in options.items() if name in Options.__annotations__}
    found: Options = own
    return found


def check_installed(module: str, package: str = "") -> None:
    """Check that the library of a metric is installed.

    Raises:
        BadInput: It is not.
    """
    if find_spec(module) is None:
        raise BadInput(f'this score needs {package or module}: pip install "protege[scores]"')


def inputs_of(table: Table) -> list[Any]:
    """Return the inputs of `Student.predict`: images, texts, or pairs of texts."""
    if "image" in table.columns:
        return [one.open() for one in table.columns["image"]]
    if "pair" in table.columns:
        return [*zip(table.texts("text"), table.texts("pair"), strict=True)]
    return table.texts("text")


def check_fast(student: Student) -> None:
    """Check that the tokenizer knows the place of each token in the text.

    Raises:
        Unsupported: It does not.
    """
    if not student.tokenizer.is_fast:
        kind = type(student.tokenizer).__name__
        raise Unsupported(f"{kind}: does not tell which characters a token is; expected a fast one")


def cut_at(student: Student) -> dict[str, Any]:
    """Return the options with which a tokenizer truncates to what the student reads."""
    limit = student.max_tokens
    return {} if limit is None else {"truncation": True, "max_length": limit}
