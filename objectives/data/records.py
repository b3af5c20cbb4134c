"""Rows of datasets and files, and their conversion to examples."""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

from protege.objectives.data.example import Content, Example, Label
from protege.spaces.errors import BadInput

BATCH = 1000
"""Rows of text read at a time from a Hugging Face dataset; ten times as fast as single rows."""

Make = Callable[[Any, str], Content]
"""Converts a value to content; the second argument names the value in error messages."""


@dataclass(frozen=True)
class Columns:
    """The content and label columns of a table.

    Attributes:
        content: The column of the content.
        label: The column of the label; None if unlabelled.
        pair: The column of the second text of each pair; None for single contents.
    """

    content: str
    label: str | None = None
    pair: str | None = None

    def among(self, names: Iterable[str], where: str) -> "Columns":
        """Check the columns against a table's; the label column defaults to ``label``.

        Raises:
            BadInput: A column is missing.
        """
        there = list(names)
        for name in self.names:
            if name not in there:
                known = ", ".join(map(str, there)) or "none"
                raise BadInput(f"{where}: no column {name!r}; there are: {known}")
        if self.label is None and self.content != "label" and "label" in there:
            return replace(self, label="label")
        return self

    @property
    def names(self) -> list[str]:
        """The distinct columns to read."""
        return [name for name in dict.fromkeys((self.content, self.pair, self.label)) if name]


@dataclass(frozen=True)
class DatasetRows:
    """The rows of a dataset as examples; each call iterates from the first row.

    Attributes:
        dataset: An iterable of rows.
        columns: The content and label columns.
        make: Converts a value to content.
        where: Text before and after a row's number in error messages.
        classes: The class name of each label number; empty if the dataset has none.
    """

    dataset: Any
    columns: Columns
    make: Make
    where: tuple[str, str]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, dataset: Any, columns: Columns, make: Make, origin: str = "dataset"
    ) -> "DatasetRows":
        """Return the rows of a Hugging Face dataset or of a list of mappings.

        Raises:
            BadInput: The dataset has several splits, can be read only once, or lacks a column.
        """
        if isinstance(dataset, Mapping):
            known = ", ".join(map(str, dataset))
            raise BadInput(f"several datasets, {known}; expected one of them: dataset[name]")
        if not hasattr(dataset, "__iter__") or iter(dataset) is dataset:
            raise BadInput(
                f"of type {type(dataset).__name__}; expected a dataset that can be "
                "read again and again"
            )
        where = f"{origin}, row ", ""
        names = getattr(dataset, "column_names", None) or _row(
            next(iter(dataset), {}), f"{origin}, row 0"
        )
        columns = columns.among(names, origin)
        features = getattr(dataset, "features", None) or {}
        # other columns need not be decoded
        if hasattr(dataset, "select_columns"):
            dataset = dataset.select_columns(columns.names)
        return cls(dataset, columns, make, where, class_names(features.get(columns.label)))

    def __call__(self) -> Iterator[Example]:
        rows, (before, after) = self._rows(), self.where
        for number in count():
            where = f"{before}{number}{after}"
            try:
                row = next(rows)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                raise BadInput(f"{where}: a text that is not UTF-8 ({error})") from None
            yield example(_row(row, where), self.columns, self.make, where)

    def _rows(self) -> Iterator[Any]:
        if self.make is not text_of or not hasattr(self.dataset, "iter"):
            yield from self.dataset  # images are large: one at a time
            return
        seen = 0
        try:
            for batch in self.dataset.iter(BATCH):
                for values in zip(*batch.values(), strict=True):
                    yield dict(zip(batch, values, strict=True))
                    seen += 1
        except UnicodeDecodeError:
            yield from islice(self.dataset, seen, None)  # one by one, to find the invalid row


def held(
    values: Iterable[Any], labels: Iterable[Any] | None, make: Make, noun: str
) -> tuple[Example, ...]:
    """Convert values in memory, with one label each or none, to examples.

    Raises:
        BadInput: The numbers of values and labels differ, or one cannot be converted.
    """
    if isinstance(values, str):
        raise BadInput(f"{values!r}: expected a list of {noun}; from_file(path) reads a file")
    contents = list(values)
    given = [None] * len(contents) if labels is None else list(labels)
    if len(given) != len(contents):
        raise BadInput(f"{len(contents)} {noun} with {len(given)} labels; expected one each")
    rows = [{"content": one, "label": two} for one, two in zip(contents, given, strict=True)]
    return tuple(DatasetRows(rows, Columns("content", "label"), make, (f"{noun}[", "]"))())


def example(row: Mapping[str, Any], columns: Columns, make: Make, where: str) -> Example:
    """Convert a row to an example.

    Raises:
        BadInput: The content or the label is invalid.
    """
    given = None if columns.label is None else row.get(columns.label)
    value = row.get(columns.content)
    if columns.pair is not None:
        value = [value, row.get(columns.pair)]
    content, label = make(value, where), _label_of(given, where)
    try:
        return Example(content, label)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def text_of(value: Any, where: str) -> str | tuple[str, ...]:
    """Convert a value to a text, or to a tuple of words.

    Raises:
        BadInput: The value is neither, or cannot be encoded as UTF-8.
    """
    value = plain(value)
    if isinstance(value, str):
        return encodable(value, where)
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return tuple(encodable(word, where) for word in value)
    raise BadInput(f"{where}: expected a text, or a list of words; found {shown(value)}")


def encodable(text: str, where: str) -> str:
    """Return the text unchanged if it can be encoded as UTF-8.

    Raises:
        BadInput: The text holds a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"{where}: character {error.start} of {shown(text)} is {text[error.start]!r}, half of "
            "a surrogate pair, which cannot be encoded; replace or remove it"
        ) from None
    return text


def shown(value: Any) -> str:
    """Return the `repr` of a value for an error message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _label_of(value: Any, where: str) -> Label | None:
    value = plain(value)
    if value is None:
        return None
    if isinstance(value, Mapping) and isinstance(value.get("text"), list | tuple):
        value = next(iter(value["text"]), "")  # SQuAD lists several answers; the first one is used
    try:
        if isinstance(value, list | tuple):
            return tuple(_class_of(one, where) for one in value)
        return _class_of(value, where)
    except TypeError:
        raise BadInput(
            f"{where}: expected a label that is a number or a name, or a list of them; found "
            f"{shown(value)}"
        ) from None


def _class_of(value: Any, where: str) -> int | float | str:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return encodable(value, where) if isinstance(value, str) else operator.index(value)


def class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of a Hugging Face ``ClassLabel`` or of a list of ``ClassLabel``."""
    while feature is not None:
        names = getattr(feature, "names", None)
        if names:
            return tuple(map(str, names))
        feature = getattr(feature, "feature", None)
    return ()


def _row(row: Any, where: str) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    raise BadInput(f"{where}: expected values by column; found {shown(row)}")


def plain(value: Any) -> Any:
    """Convert NumPy and torch values to Python numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else value
