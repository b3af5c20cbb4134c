"""One process at a time for each study."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces import BadInput
from protege.spaces.files.locks import holder, locked_at_once

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
    path = folder / file_name
    with locked_at_once(path) as is_held:
        if not is_held:
            raise refused(name, holder(path))
        yield


def refused(name: str, holder: str) -> BadInput:
    """That another process has a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )
