"""A cache of results on disk, named by a hash of their inputs."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import Buffer

from protege.spaces.files.atomic import atomic, write_text
from protege.spaces.files.hashing import Key, canonical, digest, text_checksum
from protege.spaces.files.locks import locked


@dataclass(frozen=True)
class Cache:
    """A folder of results, each named by a hash of its key; safe to delete at any time.

    The key is stored with the result and compared at reading, so hash collisions and renamed files
    are detected. Truncated or altered files fail their checksum and are computed again.
    """

    folder: Path
    _open: dict[Path, dict[str, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    def tensors(
        self, kind: str, key: Key, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the memory-mapped tensors of a key; compute and write them if absent."""
        path = self.path(kind, key, "safetensors")
        return self.opened(path, lambda: self._stored(path, canonical(key), compute))

    def opened(self, path: Path, read: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of a file of this cache; read it once and keep it open."""
        if path not in self._open:
            self._open[path] = read()
        return self._open[path]

    def path(self, kind: str, key: Key, suffix: str) -> Path:
        """Return the path of a key's result, which need not exist."""
        return self.folder / f"{kind}-{digest(canonical(key).encode())}.{suffix}"

    def record(self, kind: str, key: Key, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON record of a key; compute and write it if absent."""
        path, text = self.path(kind, key, "json"), canonical(key)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            found: dict[str, Any] = stored["record"]
            if stored["key"] == json.loads(text) and stored["checksum"] == text_checksum(found):
                return found
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, truncated or altered: computed below
        result = compute()
        content = {"key": json.loads(text), "record": result, "checksum": text_checksum(result)}
        write_text(path, json.dumps(content, indent=1))
        return result

    def _stored(
        self, path: Path, key: str, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        with locked(path.with_suffix(".lock")):  # other processes wait for the result
            found = read_tensors(path, key)
            if found is not None:
                return found
            result = compute()
            write_tensors(path, key, result)
            return read_tensors(path, key) or result


def write_tensors(path: Path, key: str, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors with their key and checksum, atomically.

    Raises:
        DiskFull: The disk has no room for them.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic(path) as scratch:
        save_file(whole, scratch, metadata={"key": key, "checksum": _checksum(whole)})


def read_tensors(path: Path, key: str) -> dict[str, Tensor] | None:
    """Read the tensors of a key; None if the file is absent, altered or has another key."""
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    if header.get("key") != key or header.get("checksum") != _checksum(found):
        return None
    return found


def tensor_bytes(tensor: Tensor) -> Buffer:
    """Return the tensor's bytes, without a copy if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return cast(Buffer, flat.numpy())


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor_bytes(tensor))
    return state.hexdigest()
