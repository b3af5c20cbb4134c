"""Hash keys, records and bytes: equal content has equal digests on every machine."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import Buffer

Key = Mapping[str, Any]


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


def text_checksum(record: Key) -> str:
    """What tells a record that was altered."""
    return digest(canonical(record).encode())
