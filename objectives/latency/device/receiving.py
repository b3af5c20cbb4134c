"""Answer requests on a device: probe it, list uploaded files, receive a file.

Run as ``python3 -c SOURCE MARK VERB FOLDER ...``, so that nothing need be installed there. The
answer is one line of JSON after the mark.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import platform
import shutil
import stat
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_BYTES = 2 * 2**30
"""Maximum size of all programs."""

_HOUR_S = 3600.0
_SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(mark: str, verb: str, folder: str, *rest: str) -> None:
    """Print the answer to one request, or why it ``failed``, or that the disk is ``full``."""
    # unlike Path.resolve, abspath keeps symbolic links
    place = Path(os.path.abspath(os.path.expanduser(folder)))  # noqa: PTH100, PTH111
    try:
        answer = _VERBS[verb](place, *rest)
    except OSError as error:
        kind = "full" if error.errno in _FULL else "failed"
        answer = {kind: "{}: {}".format(type(error).__name__, error)}
    print("\n" + mark + json.dumps(answer))  # noqa: T201


def probe(place: Path, *modules: str) -> dict[str, Any]:
    """Return the machine's properties and the versions of modules, or why they are missing."""
    versions, missing = {}, {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken install may raise anything
            missing[name] = "{}: {}".format(type(error).__name__, error)
        else:
            versions[name] = str(getattr(module, "__version__", "unknown"))
    return {
        "folder": str(place),
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "cores": available_cores(),
        "versions": versions,
        "missing": missing,
    }


def look(place: Path, *names: str) -> dict[str, Any]:
    """Return which of the files are there with the content their names hash; mark them as used.

    Raises:
        PermissionError: Another user can write to the folder, whose content is executed.
    """
    if os.path.lexists(str(place)):
        _check_own(place)
    there = [name for name in names if _is_kept(place / name)]
    for name in there:
        os.utime(str(place / name))
    return {"there": there}


def keep(place: Path, name: str, expected: str, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Store standard input under a name if its SHA-256 is as expected; unpack an archive.

    Raises:
        PermissionError: Another user can write to the folder.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_own(place)
    scratch = place / ".{}.{}".format(name, os.getpid())
    unpacked = scratch.with_name(scratch.name + ".d")
    state = hashlib.sha256()
    try:
        with scratch.open("wb") as file:
            for chunk in iter(lambda: sys.stdin.buffer.read(1 << 20), b""):
                state.update(chunk)
                file.write(chunk)
        if state.hexdigest() != expected:
            return {"wrong": state.hexdigest()}
        if name.endswith(".tar"):
            with tarfile.open(str(scratch)) as archive:
                archive.extractall(str(unpacked), **_SAFELY)
        try:
            (unpacked if unpacked.exists() else scratch).replace(place / name)
        except OSError:
            if not (place / name).exists():  # otherwise another process stored the same content
                raise
        _make_room(place, most_bytes)
        return {"kept": name}
    finally:
        _remove(scratch)
        _remove(unpacked)


def _check_own(place: Path) -> None:
    """Check that the folder belongs to this user, and that no other user can write to it."""
    found = place.lstat()
    wrong = ""
    if not stat.S_ISDIR(found.st_mode):
        wrong = "not a folder, or a symbolic link"
    elif found.st_uid != os.getuid():
        wrong = "of another user, uid {}".format(found.st_uid)
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong = "open to other users, with mode {:03o}".format(stat.S_IMODE(found.st_mode))
    if wrong:
        raise PermissionError(
            "{} is {}; name a folder that only you can write to".format(place, wrong)
        )


def _is_kept(path: Path) -> bool:
    """Return whether a program's folder is there, or a file with the content its name hashes."""
    if path.is_symlink() or not path.is_file():
        return path.is_dir() and not path.is_symlink()
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] in path.name


def _make_room(place: Path, most_bytes: int) -> None:
    """Delete the least recently used programs beyond a size, if unused for an hour."""
    for path in sorted(place.glob("*.tar"), key=lambda path: -path.stat().st_mtime):
        most_bytes -= sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if most_bytes < 0 and time.time() - path.stat().st_mtime > _HOUR_S:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(str(path), ignore_errors=True)
    elif path.exists():
        path.unlink()


def available_cores() -> list[int]:
    """Return the cores that this process may use, which in a container may be a part of all."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_model() -> str:
    """Return the processor's name, or the board's if the kernel reports no processor."""
    for source, wanted in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        with suppress(OSError):
            for line in Path(source).read_text(encoding="utf-8").splitlines():
                if line.startswith(wanted) and line.strip():
                    return line.rpartition(":")[2].strip(" \t\0")
    return platform.processor() or platform.machine()


_VERBS: dict[str, Any] = {"probe": probe, "look": look, "keep": keep}


if __name__ == "__main__":
    main(*sys.argv[1:])
