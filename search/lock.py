"""One process at a time for each study."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces import BadInput
from protege.spaces.files.locks import holder, note_holder, opened

LOCK = "study.lock"
"""The file in a run folder that the process which runs the study holds locked."""


@contextmanager
def held(folder: Path, name: str, file_name: str = LOCK) -> Iterator[None]:
    """Hold a study's folder; the kernel releases it however the process ends.

    Args:
        folder: The folder of the lock file; made if it does not exist.
        name: The study.
        file_name: The file in the folder that is locked.

    Raises:
        BadInput: Another process holds it, or the file is another user's or a symbolic link.
    """
    with opened(folder / file_name) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refused(name, holder(file)) from None
        note_holder(file)
        yield


def refused(name: str, holder: str) -> BadInput:
    """That another process has a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )
