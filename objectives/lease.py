"""Who may use this machine: many processes at work together, or one that measures, alone.

Latency is measured alone on a machine, while everything else that protege does there waits, be it
of this study or of another one of the same user. Two files are locked: one says who is at work, the
other is a turnstile, held by whoever measures or waits to, so that a stream of short pieces of work
cannot keep a measurement waiting for ever.

The locks are the kernel's own, not filelock's: a process that waits sleeps instead of polling
beside the measurement, and many can share one lock.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protege.spaces.files.locks import (
    TELLS_AFTER_S,
    TELLS_EVERY_S,
    log_waiting,
    note_holder,
    of_this_user,
)


@contextmanager
def working() -> Iterator[None]:
    """A piece of work of some seconds at most, beside others; waits while somebody measures.

    Inside it nothing may be waited for that another process has: that one might wait for this.
    """
    with _held("turn"):
        pass
    with _held("work", shared=True):
        yield


@contextmanager
def alone() -> Iterator[None]:
    """A measurement: nobody else measures, and nobody is at work."""
    with _held("turn"), _held("work"):
        yield


@contextmanager
def _held(name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock of this user, alone or shared; its file is in a folder of this user alone."""
    import fcntl  # not on every platform that can load a model

    path, kind = of_this_user(name), fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            with _telling(path):
                fcntl.flock(file, kind)
        note_holder(file)
        yield
    finally:
        os.close(file)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Log, for as long as the block waits, which process holds the lock."""
    done = threading.Event()

    def tell() -> None:
        pause_s = TELLS_AFTER_S
        while not done.wait(pause_s):
            log_waiting(path)
            pause_s = TELLS_EVERY_S

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
