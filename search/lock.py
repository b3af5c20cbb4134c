"""One process at a time for each study."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces import BadInput


@contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Hold a study's folder; the system lets go of it however the process ends.

    Raises:
        BadInput: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "study.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BadInput(
                f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
