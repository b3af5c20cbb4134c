"""Texts from files, read line by line or row by row; only ``.json`` is loaded as a whole.

Parquet is read by Hugging Face `datasets`; text, CSV, TSV and JSON by the standard library, since
`datasets` reads malformed files of these formats without an error: it drops quotes that are part of
a text in CSV, fills short rows with empty fields, changes integers above 64 bits in JSON, and adds
quotes to texts that are mixed with numbers. Its errors do not name the line, and importing it takes
a second.
"""

import csv
import glob
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TextIO, get_args

from protege.objectives.data.example import Example
from protege.objectives.data.records import BATCH, Columns, DatasetRows, example, shown, text_of
from protege.spaces.errors import BadInput

Kind = Literal["lines", "json", "jsonl", "csv", "tsv", "parquet"]
"""Format of a file."""

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
"""Format by file suffix."""

LONGEST = 1_000_000
"""Maximum characters of a text; a longer line is split, a longer table field raises."""

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class File:
    """A file of texts; each call reads it from the start.

    Attributes:
        path: The file.
        columns: The columns of texts and labels.
        kind: Format of the file.
        quoted: Whether table fields may be quoted; quoted fields may hold separators and newlines.
        longest_object: Maximum characters of a JSON line, which cannot be split.
    """

    path: Path
    columns: Columns
    kind: Kind
    quoted: bool = False
    longest_object: int = 64_000_000

    @classmethod
    def of(cls, path: Path, columns: Columns, kind: Kind | None, quoted: bool | None) -> "File":  # noqa: FBT001
        """Return the file; a kind of None is derived from the suffix.

        Raises:
            BadInput: The suffix or the kind is unknown, `columns` names a label or a pair for a
                file of lines, or `quoted` is given for a file that is not a table.
        """
        kind = kind or _kind_of(path)
        if kind not in get_args(Kind):
            raise BadInput(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}")
        if quoted is not None and kind not in {"csv", "tsv"}:
            raise BadInput(f"{path}: quoted={quoted} is for .csv and .tsv; leave it out")
        if kind == "lines" and (missing := columns.label or columns.pair) is not None:
            raise BadInput(
                f"{path}: each line is a text, so there is no column {missing!r}; expected a "
                "file in .json, .jsonl, .csv, .tsv or .parquet"
            )
        return cls(path, columns, kind, kind == "csv" if quoted is None else quoted)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names stored in a Parquet file that `datasets` wrote; empty for other files."""
        return _parquet(self.path, self.columns).classes if self.kind == "parquet" else ()

    def records(self) -> Iterator[tuple[str, Any]]:
        """Yield each object, row or line with its place in the file, for error messages.

        Raises:
            BadInput: The file cannot be read or is malformed.
        """
        if self.kind == "parquet":
            with _reading_parquet(self.path):
                rows = enumerate(_streamed(self.path, _names(self.path)))
                yield from ((f"{self.path}, row {number}", row) for number, row in rows)
            return
        with _opened(self.path, "" if self.kind in {"csv", "tsv"} else None) as file:
            if self.kind == "lines":
                yield from ((str(self.path), line.content) for line in self._lines(file))
            elif self.kind in {"csv", "tsv"}:
                yield from ((where, row) for where, row, _ in self._fields(file))
            else:
                yield from self._values(file)

    def __call__(self) -> Iterator[Example]:
        if self.kind == "parquet":
            yield from _parquet(self.path, self.columns)()
            return
        if self.kind in {"csv", "tsv"}:
            read, newline = self._table, ""  # fields in quotes may hold line ends
        else:
            read, newline = self._lines if self.kind == "lines" else self._objects, None
        with _opened(self.path, newline) as file:
            yield from read(file)

    def _lines(self, file: TextIO) -> Iterator[Example]:
        while line := file.readline(LONGEST):
            yield Example(line.removesuffix("\n"))

    def _objects(self, file: TextIO) -> Iterator[Example]:
        yield from (self._object(value, where) for where, value in self._values(file))

    def _values(self, file: TextIO) -> Iterator[tuple[str, Any]]:
        is_whole, most = self.kind == "json", self.longest_object
        texts = iter(file.read if is_whole else partial(file.readline, most), "")
        for line, text in enumerate(texts, 1):
            where = str(self.path) if is_whole else f"{self.path}, line {line}"
            if len(text) == most and not is_whole:
                raise BadInput(f"{where}: {most} characters or more; expected one object")
            for item, value in enumerate(_values(text, where), 1):
                yield f"{where}, item {item}" if is_whole else where, value

    def _object(self, record: Any, where: str) -> Example:
        content, label = self.columns.content, self.columns.label
        if isinstance(record, str) and label is None:
            record = {content: record}
        if not isinstance(record, dict) or not isinstance(record.get(content), str | list):
            is_object = isinstance(record, dict)
            found = f"one with {', '.join(record)}" if is_object else shown(record)
            raise BadInput(
                f'{where}: expected an object with "{content}", a string or a list of them; found '
                f"{found}"
            )
        # only a label column that the user named is required on every line
        own = self.columns
        columns = own.among(record, where) if label else replace(own, label="label")
        return example(record, columns, text_of, where)

    def _table(self, file: TextIO) -> Iterator[Example]:
        yield from (self._row(row, columns, where) for where, row, columns in self._fields(file))

    def _fields(self, file: TextIO) -> Iterator[tuple[str, dict[str, Any], Columns]]:
        # the limit is global to the process; its default is 131,072 characters
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
        rows = csv.reader(
            file,
            delimiter="," if self.kind == "csv" else "\t",
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        line = 0
        try:
            names = next(rows, [])
            columns = self.columns.among(names, str(self.path))
            for name in columns.names:
                if names.count(name) > 1:
                    raise BadInput(f"{self.path}: the header names {name!r} twice; rename one")
            for row in rows:
                line = rows.line_num
                if row:
                    where = f"{self.path}, line {line}"
                    yield where, self._named(names, row, where), columns
        except csv.Error as error:
            hint = "; if quotes are part of the texts, give quoted=False" if self.quoted else ""
            raise BadInput(
                f"{self.path}, below line {line}: not a row of a table ({error}){hint}"
            ) from None

    def _named(self, names: list[str], fields: list[str], where: str) -> dict[str, Any]:
        if len(fields) != len(names):
            in_quotes = not self.quoted and any('"' in field for field in fields)
            hint = "; if fields are in quotes, give quoted=True" if in_quotes else ""
            raise BadInput(
                f"{where}: {len(fields)} fields; expected {len(names)}: {', '.join(names)}{hint}"
            )
        return dict(zip(names, fields, strict=True))

    def _row(self, row: dict[str, Any], columns: Columns, where: str) -> Example:
        if columns.label is not None:
            field = row[columns.label]
            # canonical integers only, so that a class named "007" stays a name
            is_number = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", field)
            row[columns.label] = int(field) if is_number else field or None
        return example(row, columns, text_of, where)


def _values(text: str, where: str) -> Iterator[Any]:
    """Yield concatenated JSON values; arrays are flattened by one level.

    Raises:
        BadInput: The text is not valid JSON.
    """
    decoder, at = json.JSONDecoder(), 0
    while (space := _SPACE.match(text, at)) and (at := space.end()) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: not JSON ({error})") from None
        yield from value if isinstance(value, list) else [value]


def _parquet(path: Path, columns: Columns) -> DatasetRows:
    """Return the rows of a Parquet file, with the requested columns only; raises as below."""
    with _reading_parquet(path):
        columns = columns.among(_names(path), str(path))
        return DatasetRows.of(_streamed(path, columns.names), columns, text_of, str(path))


def _names(path: Path) -> list[str]:
    """Return the columns of a Parquet file."""
    from pyarrow.parquet import read_schema

    names: list[str] = read_schema(path).names
    return names


def _streamed(path: Path, names: list[str]) -> Any:
    """Return columns of a Parquet file as a streamed dataset."""
    from datasets import Dataset

    with TemporaryDirectory() as locks:  # while streaming, datasets writes lock files only
        return Dataset.from_parquet(  # load_dataset would contact a server
            glob.escape(str(path.absolute())),
            streaming=True,
            columns=names,
            batch_size=BATCH,
            cache_dir=locks,
        )


@contextmanager
def _reading_parquet(path: Path) -> Iterator[None]:
    """Read a Parquet file in the block.

    Raises:
        BadInput: The file cannot be read, is not Parquet, or lacks a column.
    """
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError as error:  # base class of pyarrow's errors
        raise BadInput(f"{path}: not a Parquet file ({error})") from None


def _kind_of(path: Path) -> Kind:
    """Return the format of a file by its suffix.

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
        raise _unreadable(path, error) from None
    found = f"the suffix {path.suffix!r} is unknown" if path.suffix else "it has no suffix"
    raise BadInput(
        f"{path}: {found}; expected one of {', '.join(KINDS)}: unpack or convert the file, or say "
        f"what it holds, such as kind='lines' ({', '.join(get_args(Kind))})"
    )


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, with or without a byte order mark.

    Raises:
        BadInput: The file cannot be read, or is not UTF-8; the message gives the invalid byte.
    """
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
