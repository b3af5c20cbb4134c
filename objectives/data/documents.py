"""Read the values of a JSON file one after another, however they are laid out."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from protege.spaces.errors import BadInput

LONGEST_OBJECT = 64_000_000
"""Characters of one value in JSON, which cannot be read in pieces."""

CHUNK = 65_536
"""Characters that are read at a time."""

_SPACE = re.compile(r"[ \t\n\r]*")


class Scanner:
    """Reads a file in JSON piece by piece, with no more than one value in memory."""

    def __init__(self, file: TextIO, origin: str) -> None:
        self._file = file
        self._origin = origin
        self._text = ""
        self._at = 0
        self._line = 1
        self._decoder = json.JSONDecoder()

    def rows(self) -> Iterator[tuple[Any, str]]:
        """Yield every value, and those of an array one by one, each with where it begins.

        Raises:
            BadInput: The file is not JSON from there on, or a value is too long.
        """
        while mark := self._next():
            if mark == "[":
                yield from self._elements()
            else:
                yield self._value()

    def _elements(self) -> Iterator[tuple[Any, str]]:
        """Yield the elements of the array that begins here."""
        begin = self._where
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            mark = self._next()
            self._at += 1
            if mark == "]":
                return
            if mark != ",":
                found = repr(mark) if mark else f"the end of the file; the array is of {begin}"
                raise BadInput(f"{self._where}: not JSON (expected ',' or ']', found {found})")

    def _value(self) -> tuple[Any, str]:
        """Return the value that begins here, and where that is."""
        self._next()
        where = self._where
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more(where):
                    line = self._line + self._text.count("\n", self._at, error.pos)
                    raise BadInput(f"{self._origin}, line {line}: not JSON ({error.msg})") from None
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{where}: not JSON ({error})") from None
            else:
                self._skip(end)
                return value, where

    def _next(self) -> str:
        """Skip white space; return the character that comes next, or nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._skip(self._at if space is None else space.end())
            if self._at < len(self._text) or not self._more(self._where):
                return self._text[self._at : self._at + 1]

    def _more(self, where: str) -> bool:
        """Read on, as much again as is there; return whether there was anything left."""
        left = self._text[self._at :]
        if len(left) >= LONGEST_OBJECT:
            raise BadInput(f"{where}: {LONGEST_OBJECT} characters or more; expected one object")
        read = self._file.read(max(CHUNK, len(left)))
        self._text, self._at = left + read, 0
        return bool(read)

    def _skip(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self._at = end

    @property
    def _where(self) -> str:
        return f"{self._origin}, line {self._line}"
