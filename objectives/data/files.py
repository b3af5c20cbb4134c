"""Read files of texts line by line or row by row, so that their size does not matter."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from protege.objectives.data.documents import LONGEST_OBJECT, Scanner
from protege.objectives.data.example import Example
from protege.objectives.data.opening import LONGEST, opened, unreadable
from protege.objectives.data.records import Columns, example, text_of
from protege.objectives.data.tables import Parquet, Table
from protege.spaces.errors import BadInput

Kind = Literal["lines", "json", "jsonl", "csv", "tsv", "parquet"]
"""What a file holds."""

KINDS: dict[str, Kind] = {
    ".txt": "lines",
    ".text": "lines",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""What a file of each suffix holds."""


def reader(
    path: Path, columns: Columns, kind: Kind | None = None, *, quoted: bool | None = None
) -> Callable[[], Iterator[Example]]:
    """Return the reader of a file.

    Args:
        path: The file.
        columns: The columns of texts and labels.
        kind: What the file holds; by its suffix if not given.
        quoted: Whether fields of a table may be in quotes; by default in CSV alone.

    Raises:
        BadInput: The suffix or the kind is unknown, a label is named where each line is a text, or
            quotes are asked for where there is no table.
    """
    kind = _kind_of(path) if kind is None else kind
    if kind not in get_args(Kind):
        raise BadInput(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}")
    if kind in {"csv", "tsv"}:
        comma = kind == "csv"
        return Table(path, columns, "," if comma else "\t", comma if quoted is None else quoted)
    if quoted is not None:
        raise BadInput(f"{path}: quoted={quoted} is for .csv and .tsv; leave it out")
    if kind == "lines":
        if columns.label is None:
            return Lines(path)
        raise BadInput(
            f"{path}: each line is a text, so there is no column {columns.label!r}; expected a "
            "file in .json, .jsonl, .csv, .tsv or .parquet"
        )
    if kind == "parquet":
        return Parquet(path, columns)
    return Document(path, columns) if kind == "json" else Objects(path, columns)


def _kind_of(path: Path) -> Kind:
    """Return what the file holds by its suffix.

    Raises:
        BadInput: The suffix is unknown, or the path is a folder or missing.
    """
    known = KINDS.get(path.suffix.lower())
    if known is not None:
        return known
    if path.is_dir():
        raise BadInput(f"{path}: a folder; expected a file of texts")
    try:
        path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    found = f"the suffix {path.suffix!r} is unknown" if path.suffix else "it has no suffix"
    raise BadInput(
        f"{path}: {found}; expected one of {', '.join(KINDS)}: unpack or convert the file, or say "
        f"what it holds, such as kind='lines' ({', '.join(get_args(Kind))})"
    )


@dataclass(frozen=True)
class Lines:
    """Each line of a UTF-8 file is a text; a longer one than `LONGEST` is several."""

    path: Path

    def __call__(self) -> Iterator[Example]:
        with opened(self.path) as file:
            while line := file.readline(LONGEST):
                yield Example(line.removesuffix("\n"))


@dataclass(frozen=True)
class Objects:
    """Each line of a UTF-8 file is an object in JSON."""

    path: Path
    columns: Columns

    def __call__(self) -> Iterator[Example]:
        number = 0
        with opened(self.path) as file:
            while line := file.readline(LONGEST_OBJECT):
                number += 1
                if line.strip():
                    yield self._example(line, f"{self.path}, line {number}")

    def _example(self, line: str, where: str) -> Example:
        if len(line) == LONGEST_OBJECT:
            raise BadInput(f"{where}: {LONGEST_OBJECT} characters or more; expected one object")
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: not JSON ({error})") from None
        return _recorded(record, self.columns, where)


@dataclass(frozen=True)
class Document:
    """A UTF-8 file in JSON: an array of objects or texts, or one object after another.

    Objects may be laid out over several lines. One of them is in memory at a time.
    """

    path: Path
    columns: Columns

    def __call__(self) -> Iterator[Example]:
        with opened(self.path) as file:
            for value, where in Scanner(file, str(self.path)).rows():
                if isinstance(value, str):
                    if self.columns.label is not None:
                        raise BadInput(
                            f"{where}: a text alone, so there is no {self.columns.label!r}; "
                            f'expected an object with "{self.columns.content}"'
                        )
                    yield example({"text": value}, Columns("text"), text_of, where)
                else:
                    yield _recorded(value, self.columns, where)


def _recorded(record: Any, columns: Columns, where: str) -> Example:
    """Return the example that an object in JSON holds.

    Raises:
        BadInput: The value is no object, or its content or label is missing or of another type.
    """
    content, label = columns.content, columns.label
    if not isinstance(record, dict) or not isinstance(record.get(content), str | list):
        found = f"one with {', '.join(record)}" if isinstance(record, dict) else "none"
        raise BadInput(
            f'{where}: expected an object with "{content}", a string or a list of them; found '
            f"{found}"
        )
    # a label that was named is one that every line has; one that was not may be missing
    found_in = columns.among(record, where) if label else Columns(content, "label")
    return example(record, found_in, text_of, where)
