"""Files that processes lock, to take turns."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """While this process has the file to itself, or shares it; waits for its turn.

    The kernel lets go of it, however the process ends.
    """
    import fcntl  # not on every platform that can load a model

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def of_this_user(name: str) -> Path:
    """A file that all processes of this user on this machine may lock."""
    return Path(tempfile.gettempdir()) / f"protege-{name}-{os.getuid()}.lock"
