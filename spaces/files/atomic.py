"""Write files atomically: write a scratch file, then rename it."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from protege.spaces.errors import DiskFull, text_of
from protege.spaces.files.hashing import digest
from protege.spaces.files.memory import free_disk_bytes
from protege.spaces.files.private import running_system

_SCRATCH = re.compile(
    r"\.(?P<name>.+)\.(?P<space>[0-9a-f]{8})[0-9a-f]{8}\.(?P<pid>[1-9]\d*)\.scratch", re.DOTALL
)
"""The name of a scratch file: final name, `pid_space`, random digits, process id."""


LEAST_FREE = 2**20
"""Bytes below which a disk counts as full."""


class atomic:  # noqa: N801 - reads as a verb at its call sites
    """Context manager for a scratch path, renamed to the final path if the block succeeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scratch = path.with_name(_scratch_name(path.name))

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.path.parent, {self.path.name})
        return self.scratch

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.scratch.replace(self.path)
            return
        remove(self.scratch)
        raise_if_full(self.path, error)


def raise_if_full(path: Path, error: BaseException) -> None:
    """Raise `DiskFull` if a full disk is the cause of an error, also a hidden one."""
    if has_no_room(error):
        raise _full(path) from error


def _full(path: Path) -> DiskFull:
    return DiskFull(f"{path}: no space left on the device; make room, then run the same line again")


@contextmanager
def full_disk_told(path: Path) -> Iterator[None]:
    """Raise `DiskFull` for errors inside the block that a full disk causes.

    Torch reports a write that failed without its reason, so after such an error the disk decides.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise_if_full(path, error)
        if isinstance(error, RuntimeError) and free_disk_bytes(path) < LEAST_FREE:
            raise _full(path) from error
        raise


def has_no_room(error: BaseException | None) -> bool:
    """Return whether an exception or one of its causes reports a full disk."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        text = text_of(error)
        if "No space left" in text or "disk is full" in text:  # the second is SQLite's message
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def remove_abandoned(folder: Path, names: Collection[str]) -> None:
    """Remove scratch paths that ended processes left for these files and folders.

    Sub-folders are not searched, and scratch paths of other final names stay.
    """
    if not folder.is_dir():
        return
    begins = {_scratch_begin(name) for name in names}
    for path in [*folder.iterdir()]:
        found = _SCRATCH.fullmatch(path.name)
        if found is not None and found["name"] in begins and is_abandoned(path):
            remove(path)


def is_scratch_of(scratch: str, name: str) -> bool:
    """Return whether a name is that of a scratch path of `atomic` for a file name."""
    found = _SCRATCH.fullmatch(scratch)
    return found is not None and found["name"] == _scratch_begin(name)


def _scratch_begin(name: str) -> str:
    """Return the start of a file's name, shortened to keep scratch names within 255 bytes."""
    return name.encode()[:190].decode(errors="ignore")


def _scratch_name(name: str) -> str:
    """Return a scratch name that is unique among hosts, processes and threads."""
    return f".{_scratch_begin(name)}.{pid_space()}{secrets.token_hex(4)}.{os.getpid()}.scratch"


def is_abandoned(path: Path) -> bool:
    """Return whether a path is a scratch file of a process on this host that has ended.

    The processes of other hosts, containers and boots are not visible, so their scratch files never
    count as abandoned. Symbolic links are never scratch files.
    """
    found = _SCRATCH.fullmatch(path.name)
    if found is None or found["space"] != pid_space() or path.is_symlink():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except OverflowError:
        return False  # not a process id, so not a scratch file
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # other errors: another user's process
    return False


@cache
def pid_space(boot: str = "", host: str = "", container: str = "") -> str:
    """Return eight hexadecimal digits that identify a namespace of process ids.

    The parts are the id of the running system, the host's name and the kernel's namespace of
    process ids; those of this process if empty.
    """
    namespace = Path("/proc/self/ns/pid")
    own = str(namespace.readlink()) if namespace.is_symlink() else ""
    places = (boot or running_system(), host or socket.gethostname(), container or own)
    return digest(" ".join(places).encode())[:8]


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
