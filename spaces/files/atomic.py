"""Write files atomically: under a scratch name first, then renamed."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Collection
from functools import cache
from pathlib import Path

from protege.spaces.errors import DiskFull, text_of
from protege.spaces.files.hashing import digest
from protege.spaces.files.private import running_system

_SCRATCH = re.compile(
    r"\.(?P<name>.+)\.(?P<space>[0-9a-f]{8})[0-9a-f]{8}\.(?P<pid>[1-9]\d*)\.scratch", re.DOTALL
)
"""The name of a scratch file: the final name, where its process runs, random digits, its id."""


class atomic:  # noqa: N801 - reads as a verb at its call sites
    """A scratch path that takes the final name when the block ends well, else vanishes."""

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
    """Raise `DiskFull` if that is the cause: libraries have errors of their own for it, or hide it.

    Raises:
        DiskFull: There was no room for the file or folder.
    """
    if has_no_room(error):
        raise DiskFull(
            f"{path}: no space left on the device; make room, then run the same line again"
        ) from error


def has_no_room(error: BaseException | None) -> bool:
    """Return whether an exception, or one behind it, says that the disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        text = text_of(error)
        if "No space left" in text or "disk is full" in text:  # SQLite's words are the second
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def remove_abandoned(folder: Path, names: Collection[str]) -> None:
    """Remove what dead processes had begun to write in place of these files and folders.

    Args:
        folder: The folder that they are in, not its sub-folders.
        names: Their names; scratch paths of any others stay.
    """
    if not folder.is_dir():
        return
    begins = {_scratch_begin(name) for name in names}
    for path in [*folder.iterdir()]:
        found = _SCRATCH.fullmatch(path.name)
        if found is not None and found["name"] in begins and is_abandoned(path):
            remove(path)


def is_scratch_of(scratch: str, name: str) -> bool:
    """Tell whether `atomic` gives this name to a scratch path of a file with that name."""
    found = _SCRATCH.fullmatch(scratch)
    return found is not None and found["name"] == _scratch_begin(name)


def _scratch_begin(name: str) -> str:
    """Return the part of a file's name that its scratch paths have: a name takes 255 bytes."""
    return name.encode()[:190].decode(errors="ignore")


def _scratch_name(name: str) -> str:
    """Return a name for a scratch file that no other process, thread or host gives to one."""
    return f".{_scratch_begin(name)}.{pid_space()}{secrets.token_hex(4)}.{os.getpid()}.scratch"


def is_abandoned(path: Path) -> bool:
    """Return whether a path is a scratch file of a process on this host that has ended.

    The processes of another host, container or boot cannot be seen from here, so their scratch
    files are never called abandoned. No process of protege makes a symbolic link.
    """
    found = _SCRATCH.fullmatch(path.name)
    if found is None or found["space"] != pid_space() or path.is_symlink():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except OverflowError:
        return False  # no process id, so no scratch file of ours
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # else it is another user's
    return False


@cache
def pid_space(boot: str = "", host: str = "", container: str = "") -> str:
    """Return eight hexadecimal digits for where a process id counts.

    Args:
        boot: The running system; if empty, that of this process.
        host: The host's name, likewise.
        container: The namespace of process ids, likewise.
    """
    namespace = Path("/proc/self/ns/pid")
    own = str(namespace.readlink()) if namespace.is_symlink() else ""
    places = (boot or running_system(), host or socket.gethostname(), container or own)
    return digest(" ".join(places).encode())[:8]


def remove(path: Path) -> None:
    """Remove a file, or a folder and what is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none of it."""
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
