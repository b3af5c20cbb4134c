"""Files that processes lock, to take turns."""

import errno
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protege.spaces.errors import BadInput
from protege.spaces.files.private import private_folder, user

logger = logging.getLogger("protege")

_HOLDER_BYTES = 96
"""Bytes of a lock file that name the process which locked it last."""


@contextmanager
def locked(
    path: Path, *, shared: bool = False, warn_s: tuple[float, float] = (5.0, 60.0)
) -> Iterator[None]:
    """Hold a lock on a file, alone or shared with others; wait for it if another process has it.

    The kernel releases the lock however the process ends.

    Args:
        path: The file.
        shared: Whether other processes may share the lock.
        warn_s: Seconds after which a process that waits logs which process holds the lock, and
            seconds after which it does so again.

    Raises:
        BadInput: The file is a symbolic link, or another user's.
    """
    with opened(path) as file:
        _take(file, path, shared=shared, warn_s=warn_s)
        note_holder(file)
        yield


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a lock file that no other user can open, made if it is absent; yields its descriptor.

    Raises:
        BadInput: It is a symbolic link, another user's, or not a file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{path}: not a file that can be locked; remove it, then run again")
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            with suppress(OSError):  # a file system without modes
                os.fchmod(file, 0o600)
        yield file
    finally:
        os.close(file)


def _refusal(path: Path, error: OSError) -> BadInput | OSError:
    """Return the error of a lock file that cannot be opened, in words if the cause is known."""
    if error.errno == errno.ELOOP:
        return BadInput(
            f"{path}: a symbolic link, which is not followed; remove it, then run again"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        try:
            owner = f"it belongs to {user(path.lstat().st_uid)}"
        except OSError:
            owner = f"its folder does not let {user(os.getuid())} in"
        return BadInput(f"{path}: cannot be locked, {owner}; remove it, or run as its owner")
    if error.errno in {errno.EISDIR, errno.ENXIO}:
        return BadInput(f"{path}: not a file that can be locked; remove it, then run again")
    return error


def _take(file: int, path: Path, *, shared: bool, warn_s: tuple[float, float]) -> None:
    import fcntl  # not on every platform that can load a model

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        with _telling(file, path, warn_s):
            fcntl.flock(file, kind)


@contextmanager
def _telling(file: int, path: Path, warn_s: tuple[float, float]) -> Iterator[None]:
    """Log, for as long as the block waits, who holds the lock."""
    done = threading.Event()

    def tell() -> None:
        pause_s, every_s = warn_s
        while not done.wait(pause_s):
            logger.warning("waiting for %s, held by process %s", path, holder(file))
            pause_s = every_s

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def note_holder(file: int) -> None:
    """Write into a lock file which process has locked it last; in one write of a fixed length."""
    text = f"{os.getpid()}@{socket.gethostname()}".encode()
    with suppress(OSError):  # a full disk: the lock is held all the same
        os.pwrite(file, text[: _HOLDER_BYTES - 1].ljust(_HOLDER_BYTES - 1) + b"\n", 0)


def holder(file: int) -> str:
    """Return the id of the process that locked a file last, with its host if that is another."""
    noted = os.pread(file, _HOLDER_BYTES, 0).decode(errors="replace").strip()
    return noted.removesuffix(f"@{socket.gethostname()}") or "unknown"


def of_this_user(name: str) -> Path:
    """Return the file that all processes of this user on this machine lock under a name."""
    return private_folder() / f"{name}.lock"
