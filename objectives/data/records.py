"""Rows of named values, as files and datasets hold them, and what makes an example of one."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from protege.objectives.data.example import Content, Example, Label
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Columns:
    """Where in a row the content is, and the label.

    Attributes:
        content: The column of the content.
        label: The column of the label; none where there are no labels.
    """

    content: str
    label: str | None = None

    def among(self, names: Iterable[str], where: str) -> "Columns":
        """The columns of a table; ``label`` is taken for the label's where none was named.

        Raises:
            BadInput: The table lacks one of them.
        """
        there = list(names)
        for name in (self.content, self.label):
            if name is not None and name not in there:
                known = ", ".join(map(str, there)) or "none"
                raise BadInput(f"{where}: no column {name!r}; there are: {known}")
        if self.label is None and self.content != "label" and "label" in there:
            return Columns(self.content, "label")
        return self

    @property
    def names(self) -> list[str]:
        """The columns to read, each once."""
        both = dict.fromkeys((self.content, self.label))
        return [name for name in both if name is not None]


@dataclass(frozen=True)
class Held:
    """Examples in memory."""

    examples: tuple[Example, ...]

    @classmethod
    def of(
        cls,
        values: Iterable[Any],
        labels: Iterable[Any] | None,
        make: Callable[[Any, str], Content],
        noun: str,
    ) -> "Held":
        """Examples of values with as many labels, or none.

        Raises:
            BadInput: There are more or fewer labels, or a value or label is none.
        """
        contents = list(values)
        given = [None] * len(contents) if labels is None else list(labels)
        if len(given) != len(contents):
            raise BadInput(f"{len(contents)} {noun} with {len(given)} labels; expected as many")
        columns = Columns("content", "label")
        return cls(
            tuple(
                example({"content": content, "label": label}, columns, make, f"{noun}[{number}]")
                for number, (content, label) in enumerate(zip(contents, given, strict=True))
            )
        )

    def __call__(self) -> Iterator[Example]:
        return iter(self.examples)


@dataclass(frozen=True)
class Rows:
    """The rows of a dataset as examples, from the first one whenever it is called.

    Attributes:
        dataset: Iterated over, it yields rows.
        columns: Where in a row the content is, and the label.
        make: The content of a value, which it names by the last argument if it is none.
        classes: The names of the label's numbers, where the dataset has any.
    """

    dataset: Any
    columns: Columns
    make: Callable[[Any, str], Content]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Any, columns: Columns, make: Callable[[Any, str], Content]) -> "Rows":
        """The rows of a dataset of Hugging Face's, or of any list of mappings.

        Raises:
            BadInput: It is several datasets, can be read only once, or lacks a column.
        """
        if isinstance(dataset, Mapping):
            known = ", ".join(map(str, dataset))
            raise BadInput(f"several datasets, {known}; expected one of them: dataset[name]")
        if not hasattr(dataset, "__iter__") or iter(dataset) is dataset:
            raise BadInput(
                f"of type {type(dataset).__name__}; expected a dataset that can be "
                "read again and again"
            )
        names = getattr(dataset, "column_names", None) or _row(next(iter(dataset), {}), 0)
        columns = columns.among(names, "dataset")
        features = getattr(dataset, "features", None) or {}
        classes = class_names(features.get(columns.label))
        # what is not asked for need not be decoded
        if hasattr(dataset, "select_columns"):
            dataset = dataset.select_columns(columns.names)
        return cls(dataset, columns, make, classes)

    def __call__(self) -> Iterator[Example]:
        for number, row in enumerate(self.dataset):
            yield example(_row(row, number), self.columns, self.make, f"dataset, row {number}")


def example(
    row: Mapping[str, Any], columns: Columns, make: Callable[[Any, str], Content], where: str
) -> Example:
    """The example that a row holds.

    Raises:
        BadInput: A value is none that content or a label can be made of.
    """
    given = None if columns.label is None else row.get(columns.label)
    content, label = make(row.get(columns.content), where), label_of(given, where)
    try:
        return Example(content, label)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def text_of(value: Any, where: str) -> str | tuple[str, ...]:
    """A text, or a text in words.

    Raises:
        BadInput: The value is neither, or cannot be encoded.
    """
    if isinstance(value, str):
        return encodable(value, where)
    words = _plain(value)
    if isinstance(words, list | tuple) and all(isinstance(word, str) for word in words):
        return tuple(encodable(word, where) for word in words)
    raise BadInput(f"{where}: expected a text, or a list of words; found {_shown(value)}")


def label_of(value: Any, where: str) -> Label | None:
    """A class by number or by name, one a word, or none.

    Raises:
        BadInput: The value is something else, or cannot be encoded.
    """
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, str):
        return encodable(value, where)
    try:
        if isinstance(value, list | tuple):
            return tuple(
                encodable(one, where) if isinstance(one, str) else operator.index(one)
                for one in value
            )
        return operator.index(value)
    except TypeError:
        raise BadInput(
            f"{where}: expected a label that is a whole number or a name, or a list of them; found "
            f"{_shown(value)}"
        ) from None


def encodable(text: str, where: str) -> str:
    """Return the text.

    Raises:
        BadInput: It holds half of a surrogate pair, which no tokenizer and no file can take.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{where}: character {error.start} of {_shown(text)} is {text[error.start]!r}, half of "
            "a surrogate pair, which cannot be encoded; replace or remove it"
        ) from None
    return text


def class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of the classes that a feature of a dataset numbers; none without names.

    Args:
        feature: Of Hugging Face's datasets: a ``ClassLabel``, a list of them, or either as the
            mapping that is stored with a table.
    """
    while feature is not None and not isinstance(feature, str):
        inner = feature.get if isinstance(feature, Mapping) else partial(getattr, feature)
        names = inner("names", None)
        if names:
            return tuple(map(str, names))
        feature = inner("feature", None)
    return ()


def _row(row: Any, number: int) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    raise BadInput(f"dataset, row {number}: expected values by column; found {_shown(row)}")


def _plain(value: Any) -> Any:
    """Numbers and lists of Python's own for those of NumPy and torch."""
    return value.tolist() if hasattr(value, "tolist") else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
