"""The record in a student's folder of how the student was made; read without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protege.spaces.files.atomic import write_text

MANIFEST = "protege.json"


def kept_tokens(folder: Path) -> tuple[int, ...] | None:
    """The teacher's tokens that the student in a folder keeps; none where its manifest names none.

    A folder without a manifest holds no student of protege's, and all tokens as far as is known.
    """
    manifest = folder / MANIFEST
    entries = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    vocab = entries.get("kept", {}).get("vocab")
    return None if vocab is None else tuple(vocab)


def write_manifest(folder: Path, entries: Mapping[str, Any]) -> Path:
    """Write ``protege.json`` and return its path.

    Each entry takes one line: thousands of kept units are no lines to read.
    """
    lines = (f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    write_text(folder / MANIFEST, "{\n" + ",\n".join(lines) + "\n}\n")
    return folder / MANIFEST
