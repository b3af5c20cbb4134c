"""Texts from files, read line by line or row by row; only a ``.json`` is in memory as a whole.

Parquet is read by Hugging Face's `datasets`; text, CSV, TSV and JSON by Python itself. `datasets`
reads wrong files of these kinds without an error: quotes that are part of a text vanish from CSV
and a short row gets empty fields; in JSON an integer above 64 bits becomes another number, and
texts beside a number get quotes. Its errors do not name the line, and its import takes a second.
"""

import csv
import glob
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TextIO, get_args

from protege.objectives.data.example import Example
from protege.objectives.data.records import BATCH, Columns, Rows, example, shown, text_of
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

LONGEST = 1_000_000
"""Characters of a text line, or of a field of a table, that are read at once."""

LONGEST_OBJECT = 64_000_000
"""Characters of a line of JSON, which cannot be read in pieces."""

_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class File:
    """A file of texts; each call reads it from the start.

    Attributes:
        path: The file.
        columns: The columns of texts and labels.
        kind: What the file holds.
        quoted: Whether fields of a table may be in quotes, which may hold separators and line ends.
    """

    path: Path
    columns: Columns
    kind: Kind
    quoted: bool = False

    @classmethod
    def of(cls, path: Path, columns: Columns, kind: Kind | None, quoted: bool | None) -> "File":  # noqa: FBT001
        """Return the file, its kind taken from its suffix if None is given.

        Raises:
            BadInput: The suffix or the kind is unknown, a label is named where each line is a text,
                or quotes are asked for where there is no table.
        """
        kind = kind or _kind_of(path)
        if kind not in get_args(Kind):
            raise BadInput(f"kind={kind!r}: expected one of {', '.join(get_args(Kind))}")
        if quoted is not None and kind not in {"csv", "tsv"}:
            raise BadInput(f"{path}: quoted={quoted} is for .csv and .tsv; leave it out")
        if kind == "lines" and columns.label is not None:
            raise BadInput(
                f"{path}: each line is a text, so there is no column {columns.label!r}; expected a "
                "file in .json, .jsonl, .csv, .tsv or .parquet"
            )
        return cls(path, columns, kind, kind == "csv" if quoted is None else quoted)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the label's numbers, in a Parquet file that `datasets` wrote."""
        return _parquet(self.path, self.columns).classes if self.kind == "parquet" else ()

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
        is_whole = self.kind == "json"
        texts = iter(file.read if is_whole else partial(file.readline, LONGEST_OBJECT), "")
        for line, text in enumerate(texts, 1):
            where = str(self.path) if is_whole else f"{self.path}, line {line}"
            if len(text) == LONGEST_OBJECT and not is_whole:
                raise BadInput(f"{where}: {LONGEST_OBJECT} characters or more; expected one object")
            for item, value in enumerate(_values(text, where), 1):
                yield self._recorded(value, f"{where}, item {item}" if is_whole else where)

    def _recorded(self, record: Any, where: str) -> Example:
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
        # a label that was named is one that every line has; one that was not may be missing
        columns = self.columns.among(record, where) if label else Columns(content, "label")
        return example(record, columns, text_of, where)

    def _table(self, file: TextIO) -> Iterator[Example]:
        # the limit is the whole process's, and by default an eighth of what a text may have
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
                    yield self._filed(names, row, columns, f"{self.path}, line {line}")
        except csv.Error as error:
            hint = "; if quotes are part of the texts, give quoted=False" if self.quoted else ""
            raise BadInput(
                f"{self.path}, below line {line}: not a row of a table ({error}){hint}"
            ) from None

    def _filed(self, names: list[str], fields: list[str], columns: Columns, where: str) -> Example:
        if len(fields) != len(names):
            in_quotes = not self.quoted and any('"' in field for field in fields)
            hint = "; if fields are in quotes, give quoted=True" if in_quotes else ""
            raise BadInput(
                f"{where}: {len(fields)} fields; expected {len(names)}: {', '.join(names)}{hint}"
            )
        row: dict[str, Any] = dict(zip(names, fields, strict=True))
        if columns.label is not None:
            field = row[columns.label]
            # a number only as Python would write it, so that nothing of a name is lost
            is_number = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", field)
            row[columns.label] = int(field) if is_number else field or None
        return example(row, columns, text_of, where)


def _values(text: str, where: str) -> Iterator[Any]:
    """Yield the values in JSON that stand one after another, an array's items one by one.

    Raises:
        BadInput: The text is not JSON from there on.
    """
    decoder, at = json.JSONDecoder(), 0
    while (space := _SPACE.match(text, at)) and (at := space.end()) < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: not JSON ({error})") from None
        yield from value if isinstance(value, list) else [value]


def _parquet(path: Path, columns: Columns) -> Rows:
    """Return the rows of a Parquet file, of the columns asked for.

    Raises:
        BadInput: The file cannot be read, is not Parquet, or lacks a column.
    """
    from datasets import Dataset
    from pyarrow.parquet import read_schema

    try:
        columns = columns.among(read_schema(path).names, str(path))
        with TemporaryDirectory() as locks:  # all that datasets writes when it streams
            rows = Dataset.from_parquet(  # unlike load_dataset, asks no server
                glob.escape(str(path.absolute())),
                streaming=True,
                columns=columns.names,
                batch_size=BATCH,
                cache_dir=locks,
            )
        return Rows.of(rows, columns, text_of, str(path))
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError as error:  # the root of pyarrow's own
        raise BadInput(f"{path}: not a Parquet file ({error})") from None


def _kind_of(path: Path) -> Kind:
    """Return what a file holds by its suffix.

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
        BadInput: The file cannot be read, or is not UTF-8; names the byte.
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
