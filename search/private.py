"""Keep the files of a run for their owner alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def owner_only(folder: Path, *, private: bool) -> Iterator[None]:
    """Create the run folder, and whatever is created inside the block, for its owner alone.

    New files have mode 0600 and new folders 0700, in this process and in those it starts; what
    exists already keeps its mode.

    Args:
        folder: The run folder.
        private: If False, the umask of the process decides as usual.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)  # other runs share it
    before = os.umask(0o077) if private else None
    try:
        folder.mkdir(exist_ok=True)
        yield
    finally:
        if before is not None:
            os.umask(before)
