"""Checksums of a trial's weights, so that damaged or foreign ones are never used."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protege.spaces.files.atomic import write_text
from protege.spaces.files.hashing import text_checksum
from protege.spaces.students.student import MANIFEST

SUMS = "checksums.json"
"""Lists the files of a trial's weights; it is not exported."""

_ALTERED = "was cut short or altered after it was written"


def seal(folder: Path) -> str:
    """Write the checksums of all files in a folder; return the checksum of the whole."""
    sums = {name: _digest(folder / name) for name in files_in(folder)}
    whole = text_checksum(sums)
    # a module of sentence-transformers without files has an empty folder
    folders = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()]
    content = {"files": sums, "folders": sorted(folders), "checksum": whole}
    write_text(folder / SUMS, json.dumps(content, indent=1))
    return whole


def damage(folder: Path, expected: str = "") -> str:
    """Name the first damaged file in a folder of weights and what is wrong with it.

    Args:
        folder: The folder.
        expected: What `seal` returned when the weights were stored; not compared if empty.

    Returns:
        One phrase; empty if all is well.
    """
    if not (folder / MANIFEST).is_file():
        return f"{folder / MANIFEST} is missing"
    sums = _sums(folder)
    if sums is None:
        return f"{folder / SUMS} {_ALTERED}, or is missing"
    if expected and text_checksum(sums) != expected:
        return f"{folder} has the weights of another trial or study"
    altered = (folder / name for name, digest in sums.items() if _digest(folder / name) != digest)
    return next((f"{path} {_ALTERED}, or is missing" for path in altered), "")


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder of weights by name: those that were stored, and no others."""
    sums = _sums(folder)
    if sums is not None:
        return sorted(sums)
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SUMS)


def _sums(folder: Path) -> Mapping[str, str] | None:
    """Return the checksum of each file, or None if there are none that can be trusted."""
    try:
        stored: Any = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        sums: Mapping[str, str] = stored["files"]
        return sums if stored["checksum"] == text_checksum(sums) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    """Return the checksum of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
