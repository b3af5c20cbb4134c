"""Mend the end of a journal whose last write was cut short."""

import json
from pathlib import Path

from optuna.storages.journal import JournalFileSymlinkLock


def mend(path: Path) -> None:
    """Remove what a killed process has written of a last line, so that the next one begins anew.

    Optuna reads over such a line, and then appends to it: from there on nothing can be read. What
    it said was never done as far as anybody knows. A last line that lacks its end alone is kept.

    Args:
        path: The journal; one that does not exist, or is whole, is left as it is.
    """
    if not path.is_file() or not _rest(path):
        return
    lock = JournalFileSymlinkLock(str(path))  # others append to it under this lock
    lock.acquire()
    try:
        rest = _rest(path)
        with path.open("r+b") as file:
            if _is_whole(rest):
                file.seek(0, 2)
                file.write(b"\n")
            else:
                file.truncate(path.stat().st_size - len(rest))
    finally:
        lock.release()


def _rest(path: Path) -> bytes:
    """Return what is behind the last end of a line."""
    found = b""
    with path.open("rb") as file:
        file.seek(0, 2)
        at = file.tell()
        while at and b"\n" not in found:
            start = max(0, at - 65_536)
            file.seek(start)
            found, at = file.read(at - start) + found, start
    return found.rpartition(b"\n")[2]


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
