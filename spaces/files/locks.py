"""File locks between processes."""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from protege.spaces.errors import BadInput
from protege.spaces.files.private import private_folder, user

logger = logging.getLogger("protege")

WARN_S = (5.0, 60.0)
"""Seconds of waiting until the first log message, and between later ones."""

POLL_S = 0.1
"""Seconds between two attempts to acquire a lock."""

_HOLDER_BYTES = 96
"""Bytes of a lock file for the id of the last process that locked it."""


@contextmanager
def locked(path: Path, *, warn_s: tuple[float, float] = WARN_S) -> Iterator[None]:
    """Hold a lock on a file inside the block; wait if another process holds it.

    The kernel releases the lock if the process dies. The holder is logged after ``warn_s[0]``
    seconds of waiting, then every ``warn_s[1]``.

    Raises:
        BadInput: The path is a symbolic link, another user's file, or not a file.
    """
    with _unlocked(path) as lock:
        wait_s, every_s = warn_s
        while not _acquired(lock, path, wait_s):
            log_waiting(path)
            wait_s = every_s
        yield


@contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Try to lock a file without waiting; yield whether the lock is held."""
    with _unlocked(path) as lock:
        yield _acquired(lock, path, 0.0)


@contextmanager
def _unlocked(path: Path) -> Iterator[FileLock]:
    """Yield an unlocked lock of a file with mode 0600; release it at the end if it is held."""
    lock = FileLock(path, mode=0o600, poll_interval=POLL_S, on_acquired=_claim)
    try:
        yield lock
    finally:
        lock.release()


def _acquired(lock: FileLock, path: Path, wait_s: float) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        return False
    except OSError as error:
        raise refusal(path, error) from error
    return True


def _claim(file: int) -> None:
    """Restrict a newly locked file to its owner, and write this process's id into it."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENXIO, "not a file")
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        with suppress(OSError):  # a file system without modes
            os.fchmod(file, 0o600)
    note_holder(file)


def refusal(path: Path, error: OSError) -> BadInput | OSError:
    """Return the error to raise for a lock file that cannot be opened."""
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


def log_waiting(path: Path) -> None:
    """Log that this process waits for a lock, with the id of its holder."""
    logger.warning("waiting for %s, held by process %s", path, holder(path))


def note_holder(file: int) -> None:
    """Write this process's id and host into a lock file, in one write of fixed length."""
    text = f"{os.getpid()}@{socket.gethostname()}".encode()
    with suppress(OSError):  # a full disk does not affect the lock
        os.pwrite(file, text[: _HOLDER_BYTES - 1].ljust(_HOLDER_BYTES - 1) + b"\n", 0)


def holder(path: Path) -> str:
    """Return the id of the process that locked a file last, with its host if not this one."""
    noted = path.read_bytes()[:_HOLDER_BYTES].decode(errors="replace").strip()
    return noted.removesuffix(f"@{socket.gethostname()}") or "unknown"


def of_this_user(name: str) -> Path:
    """Return the path of a lock file shared by all processes of this user on this machine."""
    return private_folder() / f"{name}.lock"
