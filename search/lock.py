"""One process at a time for each study."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces import BadInput

LOCK = "study.lock"
"""The file in a run folder that the process which runs the study holds locked."""


@contextmanager
def held(folder: Path, name: str, file_name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a study; the system releases it however the process ends.

    Args:
        folder: The folder of the lock file; made if it does not exist.
        name: The study.
        file_name: The lock file.

    Raises:
        BadInput: Another process holds it, or the lock file is a link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(_opened(folder / file_name), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read(20).strip()
            raise refused(name, holder if holder.isdecimal() else "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def refused(name: str, holder: str) -> BadInput:
    """That another process has a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )


def _opened(path: Path) -> int:
    """Open the lock file, never what a link in its place points to: it is emptied."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadInput(f"{path}: a link in the place of a lock file; remove it") from error
        raise
