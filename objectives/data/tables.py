"""Tables of texts, read row by row: separated values and Parquet."""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from protege.objectives.data.example import Example
from protege.objectives.data.opening import LONGEST, opened, unreadable
from protege.objectives.data.records import Columns, class_names, example, text_of
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Table:
    """Each row of a UTF-8 file of separated values; the first one names the columns.

    A label of digits is a number; an empty one is None.

    Attributes:
        path: The file.
        columns: The columns of texts and labels.
        separator: What separates fields.
        quoted: Whether fields may be in quotes, and then hold separators and line breaks.
    """

    path: Path
    columns: Columns
    separator: str
    quoted: bool = True

    def __call__(self) -> Iterator[Example]:
        # the limit is the whole process's, and by default an eighth of what a text may have
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
        with opened(self.path, newline="") as file:
            rows = csv.DictReader(file, delimiter=self.separator, quoting=quoting, strict=True)
            try:
                columns = self._columns(rows.fieldnames or ())
                for row in rows:
                    yield self._example(row, columns, f"{self.path}, line {rows.line_num}")
            except csv.Error as error:
                hint = "; if quotes are part of the texts, give quoted=False" if self.quoted else ""
                raise BadInput(
                    f"{self.path}, below line {rows.line_num}: not a row of a table ({error}){hint}"
                ) from None

    def _columns(self, names: Any) -> Columns:
        """Return the columns to read.

        Raises:
            BadInput: The header lacks one of them, or names it twice.
        """
        columns = self.columns.among(names, str(self.path))
        twice = [name for name in columns.names if list(names).count(name) > 1]
        if twice:
            raise BadInput(f"{self.path}: the header names {twice[0]!r} twice; rename one of them")
        return columns

    def _example(self, row: dict[str, Any], columns: Columns, where: str) -> Example:
        # csv files what a row has too much under None, and None under what it has too little
        if None in row or None in row.values():
            fields = [value for value in row.values() if isinstance(value, str)]
            extra: list[str] = row.pop(None, [])  # type: ignore[call-overload]
            in_quotes = not self.quoted and any('"' in field for field in [*fields, *extra])
            hint = "; if fields are in quotes, give quoted=True" if in_quotes else ""
            raise BadInput(
                f"{where}: {len(fields) + len(extra)} fields; expected {len(row)}: "
                f"{', '.join(row)}{hint}"
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
        number = 0
        with self._file() as file:
            columns = self._columns(file)
            for batch in file.iter_batches(1000, columns=columns.names):
                for row in self._rows(batch, number):
                    yield example(row, columns, text_of, f"{self.path}, row {number}")
                    number += 1

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the numbers in the label's column, where the file was made by datasets."""
        with self._file() as file:
            about = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
            features = json.loads(about).get("info", {}).get("features", {})
            return class_names(features.get(self._columns(file).label))

    def _columns(self, file: Any) -> Columns:
        return self.columns.among(file.schema_arrow.names, str(self.path))

    def _rows(self, batch: Any, first: int) -> list[dict[str, Any]]:
        """Return the rows of a batch, numbered from the given row of the file on.

        Raises:
            BadInput: A string is not UTF-8.
        """
        try:
            found: list[dict[str, Any]] = batch.to_pylist()
            return found
        except UnicodeDecodeError as error:
            if batch.num_rows > 1:
                halves = batch.num_rows // 2
                early = self._rows(batch.slice(0, halves), first)
                return early + self._rows(batch.slice(halves), first + halves)
            raise BadInput(
                f"{self.path}, row {first}: a text that is not UTF-8 ({error})"
            ) from None

    @contextmanager
    def _file(self) -> Iterator[Any]:
        """The open file.

        Raises:
            BadInput: The file cannot be read, is not Parquet, or pyarrow is not installed.
        """
        parquet = _parquet(self.path)
        try:
            with parquet.ParquetFile(self.path) as file:
                yield file
        except OSError as error:
            raise unreadable(self.path, error) from None
        except ValueError as error:  # the root of pyarrow's own
            raise BadInput(f"{self.path}: not a Parquet file ({error})") from None


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
