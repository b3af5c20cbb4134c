"""Open a text file, with one-line errors for what cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from protege.spaces.errors import BadInput

LONGEST = 1_000_000
"""Characters of a line, or of a field of a table, that are read at once."""


@contextmanager
def opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, with or without a byte order mark.

    Args:
        path: The file.
        newline: Where lines end, as `open` takes it: JSON strings may hold Unicode's separators.

    Raises:
        BadInput: The file cannot be read, or is not UTF-8.
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
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> BadInput:
    """Return the error for a file that the system cannot read."""
    return BadInput(f"{path}: cannot be read ({error.strerror or error}); expected a text file")
