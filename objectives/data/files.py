"""Files of texts, read line by line or row by row, so that their size does not matter."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from protege.objectives.data.example import Example
from protege.objectives.data.records import Columns, example, text_of
from protege.spaces.errors import BadInput

LONGEST = 1_000_000
"""Characters of a line, or of a field of a table, that are read at once."""

LONGEST_OBJECT = 64_000_000
"""Characters of a line of JSON, which cannot be read in pieces."""


def reader(path: Path, columns: Columns) -> Callable[[], Iterator[Example]]:
    """What reads the file, by its suffix.

    Raises:
        BadInput: A label is named where each line is a text.
    """
    suffix = path.suffix.lower()
    if suffix in {".jsonl", ".ndjson"}:
        return Objects(path, columns)
    if suffix in {".csv", ".tsv"}:
        return Table(path, columns, "," if suffix == ".csv" else "\t")
    if suffix == ".parquet":
        return Parquet(path, columns)
    if columns.label is not None:
        raise BadInput(
            f"{path}: each line is a text, so there is no column {columns.label!r}; expected a "
            "file in .jsonl, .csv, .tsv or .parquet"
        )
    return Lines(path)


@dataclass(frozen=True)
class Lines:
    """Each line of a UTF-8 file is a text; a longer one than `LONGEST` is several."""

    path: Path

    def __call__(self) -> Iterator[Example]:
        with _opened(self.path) as file:
            while line := file.readline(LONGEST):
                yield Example(line.removesuffix("\n"))


@dataclass(frozen=True)
class Objects:
    """Each line of a UTF-8 file is an object in JSON."""

    path: Path
    columns: Columns

    def __call__(self) -> Iterator[Example]:
        number = 0
        with _opened(self.path) as file:
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
        content, label = self.columns.content, self.columns.label
        if not isinstance(record, dict) or not isinstance(record.get(content), str | list):
            found = f"one with {', '.join(record)}" if isinstance(record, dict) else "none"
            raise BadInput(
                f'{where}: expected an object with "{content}", a string or a list of them; found '
                f"{found}"
            )
        # a label that was named is one that every line has; one that was not may be missing
        columns = self.columns.among(record, where) if label else Columns(content, "label")
        return example(record, columns, text_of, where)


@dataclass(frozen=True)
class Table:
    """Each row of a UTF-8 file of separated values; the first one names the columns.

    A label of digits is a number; what is empty is none.
    """

    path: Path
    columns: Columns
    separator: str

    def __call__(self) -> Iterator[Example]:
        # the limit is the whole process's, and by default an eighth of what a text may have
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        with _opened(self.path, newline="") as file:
            rows = csv.DictReader(file, delimiter=self.separator, strict=True)
            try:
                columns = self.columns.among(rows.fieldnames or (), str(self.path))
                for row in rows:
                    yield self._example(row, columns, f"{self.path}, line {rows.line_num}")
            except csv.Error as error:
                raise BadInput(
                    f"{self.path}, below line {rows.line_num}: not a row of a table ({error})"
                ) from None

    def _example(self, row: dict[str, Any], columns: Columns, where: str) -> Example:
        # csv files what a row has too much under None, and None under what it has too little
        if None in row or None in row.values():
            fields = [value for value in row.values() if isinstance(value, str)]
            extra: list[str] = row.pop(None, [])  # type: ignore[call-overload]
            raise BadInput(
                f"{where}: {len(fields) + len(extra)} fields; expected {len(row)}: {', '.join(row)}"
            )
        if columns.label is not None:
            row[columns.label] = _number_or_name(row[columns.label])
        return example(row, columns, text_of, where)


@dataclass(frozen=True)
class Parquet:
    """Each row of a Parquet file, a thousand of them in memory at a time; the first is row 0."""

    path: Path
    columns: Columns

    def __call__(self) -> Iterator[Example]:
        parquet = _parquet(self.path)
        number = 0
        try:
            with parquet.ParquetFile(self.path) as file:
                columns = self.columns.among(file.schema_arrow.names, str(self.path))
                for batch in file.iter_batches(1000, columns=columns.names):
                    for row in batch.to_pylist():
                        yield example(row, columns, text_of, f"{self.path}, row {number}")
                        number += 1
        except OSError as error:
            raise _unreadable(self.path, error) from None
        except ValueError as error:  # the root of pyarrow's own
            raise BadInput(f"{self.path}: not a Parquet file ({error})") from None


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """The file, whose lines end where `open` says: JSON strings may hold Unicode's separators."""
    try:
        with path.open("rb") as raw:
            try:
                yield TextIOWrapper(raw, encoding="utf-8-sig", newline=newline)
            except UnicodeDecodeError as error:
                begin = raw.tell() - len(error.object)
                raise BadInput(
                    f"{path}: not UTF-8 (byte {begin + error.start} is "
                    f"{error.object[error.start]:#04x}); convert it, for example with "
                    "iconv -t UTF-8"
                ) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path}: cannot be read ({error.strerror or error}); expected a text file")


def _number_or_name(field: str) -> int | str | None:
    # only what is written as Python would write it, so that nothing of a text is lost
    if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", field):
        return int(field)
    return field or None


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise BadInput(f'{path}: Parquet files need pyarrow; pip install "protege[data]"') from None
    return parquet
