"""Files worth keeping between runs, named by what they were computed from."""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import Buffer

from protege.spaces.errors import DiskFull, text_of
from protege.spaces.locks import locked
from protege.spaces.private import running_system

Key = Mapping[str, Any]

_SCRATCH = re.compile(
    r"\.(?P<name>.+)\.(?P<space>[0-9a-f]{8})[0-9a-f]{8}\.(?P<pid>[1-9]\d*)\.scratch", re.DOTALL
)
"""The name of a scratch file: the final name, where its process runs, random digits, its id."""


@dataclass(frozen=True)
class Cache:
    """A folder of results, each under a hash of its key; safe to delete at any time.

    The key is stored beside the result and compared when it is read, so that neither a clash of
    hashes nor a file renamed by hand is ever taken for another result. A file that is cut short or
    altered fails its checksum and is computed again.
    """

    folder: Path
    _open: dict[Path, dict[str, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def tensors(
        self, kind: str, key: Key, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The named tensors of that key, memory-mapped; computed and written if absent."""
        path = self.path(kind, key, "safetensors")
        return self.opened(path, lambda: self._stored(path, canonical(key), compute))

    def opened(self, path: Path, read: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What is read from a file of this cache; read and checked once, then kept open."""
        if path not in self._open:
            self._open[path] = read()
        return self._open[path]

    def path(self, kind: str, key: Key, suffix: str) -> Path:
        """Where the result of that key is, or will be."""
        return self.folder / f"{kind}-{digest(canonical(key).encode())}.{suffix}"

    def record(self, kind: str, key: Key, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The JSON record of that key; computed and written if absent."""
        path, text = self.path(kind, key, "json"), canonical(key)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found: dict[str, Any] = stored["record"]
            if stored["key"] == json.loads(text) and stored["checksum"] == text_checksum(found):
                return found
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, cut short or altered: computed below
        result = compute()
        content = {"key": json.loads(text), "record": result, "checksum": text_checksum(result)}
        write_text(path, json.dumps(content, indent=1))
        return result

    def _stored(
        self, path: Path, key: str, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        with locked(path.with_suffix(".lock")):  # who comes second finds it computed
            found = read_tensors(path, key)
            if found is not None:
                return found
            result = compute()
            write_tensors(path, key, result)
            return read_tensors(path, key) or result


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


def canonical(key: Key) -> str:
    """The key as one JSON text, the same for equal keys."""
    return json.dumps(key, sort_keys=True)


def digest(*parts: Buffer) -> str:
    """Sixteen hexadecimal digits that stand for the bytes."""
    return digest_of(parts)


def digest_of(parts: Iterable[Buffer]) -> str:
    """The same of parts of which no more than one need be in memory."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()[:16]


def tensor_bytes(tensor: Tensor) -> Buffer:
    """The tensor's bytes, whatever its type, without a copy where it is contiguous."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return cast(Buffer, flat.numpy())


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor_bytes(tensor))
    return state.hexdigest()


def text_checksum(record: Key) -> str:
    """What tells a record that was altered."""
    return digest(canonical(record).encode())


def write_tensors(path: Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors under a key, with a checksum; a whole file or none of it.

    Raises:
        DiskFull: There is no room for them.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic(path) as scratch:
        save_file(whole, scratch, metadata={"key": key, "checksum": _checksum(whole)})


def read_tensors(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors written under that key; none if they are not there, or not as they were."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if header.get("key") != key or header.get("checksum") != _checksum(found):
        return None
    return found
