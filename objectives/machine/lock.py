"""A readers-writer lock on this machine: many working processes, or one that measures latency.

While one process measures, all other work of protege by the same user waits, whichever study it
belongs to. There are two lock files. ``work`` is shared by working processes and exclusive for a
measurement. ``turn`` is a turnstile: a measurement holds it while it waits and measures, so that a
stream of short work cannot starve it.

The locks are `fcntl.flock`, not filelock: waiting processes sleep instead of polling beside the
measurement, and a lock can be shared.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces.files.locks import WARN_S, log_waiting, note_holder, of_this_user


@contextmanager
def shared_machine() -> Iterator[None]:
    """Hold the machine's shared lock during a few seconds of work; wait for any measurement first.

    Do not wait for another process inside the block: it may be waiting for this lock.
    """
    with _held("turn"):
        pass
    with _held("work", shared=True):
        yield


@contextmanager
def exclusive_machine(warn_s: tuple[float, float] = WARN_S) -> Iterator[None]:
    """Hold the machine's exclusive lock for a measurement.

    Args:
        warn_s: Seconds of waiting before the first log message, and between later ones.
    """
    with _held("turn", warn_s=warn_s), _held("work", warn_s=warn_s):
        yield


@contextmanager
def _held(
    name: str, *, shared: bool = False, warn_s: tuple[float, float] = WARN_S
) -> Iterator[None]:
    """Hold a shared or exclusive lock on a file in this user's private folder."""
    import fcntl  # missing on some platforms that can load a model

    path, kind = of_this_user(name), fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            with _log_while_waiting(path, warn_s):
                fcntl.flock(file, kind)
        note_holder(file)
        yield
    finally:
        os.close(file)


@contextmanager
def _log_while_waiting(path: Path, warn_s: tuple[float, float]) -> Iterator[None]:
    """Log which process holds the lock, repeatedly, until the block ends."""
    done = threading.Event()

    def warn() -> None:
        pause_s, every_s = warn_s
        while not done.wait(pause_s):
            log_waiting(path)
            pause_s = every_s

    thread = threading.Thread(target=warn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
