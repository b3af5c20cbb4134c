"""Files worth keeping between runs, named by what they were computed from."""

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
