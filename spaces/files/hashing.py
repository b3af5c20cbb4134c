"""Hash keys, records and bytes, with the same digest on every machine."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Buffer

Key = Mapping[str, Any]


def canonical(key: Key) -> str:
    """Serialise a key as JSON; equal keys give equal texts."""
    return json.dumps(key, sort_keys=True)


def digest(*parts: Buffer) -> str:
    """Return a digest of bytes, sixteen hexadecimal digits."""
    return digest_of(parts)


def digest_of(parts: Iterable[Buffer]) -> str:
    """Return the digest of an iterable of bytes, which need not fit into memory together."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Return the whole SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_checksum(record: Key) -> str:
    """Return the checksum of a JSON record."""
    return digest(canonical(record).encode())
