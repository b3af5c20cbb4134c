"""One process at a time for each study."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces import BadInput


@contextmanager
def held(folder: Path, name: str, file_name: str = "study.lock") -> Iterator[None]:
    """Hold a study's folder; the system lets go of it however the process ends.

    Args:
        folder: The folder.
        name: The study.
        file_name: What stands for the study there.

    Raises:
        BadInput: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / file_name).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise refused(name, holder) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def refused(name: str, holder: str) -> BadInput:
    """That another process has a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )
