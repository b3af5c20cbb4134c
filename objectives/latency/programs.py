"""Models exported for a runtime: each made once, checked, and kept for every study to come."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Checkpoint, Model, described
from protege.objectives.latency.runtimes import Precision, Runtime
from protege.objectives.latency.workload import Workload
from protege.spaces.cache import atomic, canonical, digest, remove
from protege.spaces.errors import DiskFull, ProtegeError

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protege" / "programs"
MOST_BYTES = 8 * 2**30
"""What all programs together may take; those that were used least recently make room."""

EXPORT_S = 900
"""Seconds after which an export counts as hung."""


class Unexportable(ProtegeError):
    """A model could not be exported for a runtime; it costs this candidate its trial."""


@dataclass(frozen=True)
class Programs:
    """A folder of exported programs, each under a hash of all that it depends on.

    A program depends on architecture, shapes, runtime, precision and versions, not on the values of
    weights; a checkpoint's weights are part of its key nevertheless, for its outputs are checked.
    Safe to delete at any time.

    Attributes:
        folder: Where they are.
        most_bytes: What they may take together.
    """

    folder: Path = field(default=FOLDER)
    most_bytes: int = MOST_BYTES

    def of(self, model: Model, workload: Workload, runtime: Runtime, precision: Precision) -> Path:
        """The folder of a model's program; exported and checked in a process of its own if new.

        Raises:
            Unexportable: The runtime cannot take the model, or answers otherwise than PyTorch.
        """
        key = {
            "model": described(model) | _weights(model),
            "workload": _shapes(workload),
            "runtime": runtime.name,
            "precision": precision,
            "versions": runtime.versions(),
        }
        path = self.folder / digest(canonical(key).encode())
        if (path / MANIFEST).exists():
            os.utime(path)  # used now
            return path
        with atomic(path) as scratch:
            remove(scratch)
            scratch.mkdir()
            job = {
                "model": described(model),
                "workload": asdict(workload),
                "runtime": runtime.name,
                "precision": precision,
                "folder": str(scratch),
            }
            _export(job, model.model_class)
            remove(path)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Drop what was used least recently until the rest fits."""
        known = [(one.stat().st_mtime, one) for one in self.folder.iterdir() if one != newest]
        left = self.most_bytes - _size(newest)
        for _, path in sorted(known, reverse=True):
            left -= _size(path)
            if left < 0:
                remove(path)


def _shapes(workload: Workload) -> dict[str, Any]:
    """What of a workload a program depends on: not how often its step is run."""
    return asdict(workload) | {"new_tokens": min(workload.new_tokens, 1)}


def _weights(model: Model) -> dict[str, str]:
    """What stands for a checkpoint's files, wherever they are."""
    if not isinstance(model, Checkpoint):
        return {}
    folder = Path(model.folder)
    files = [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    parts = [digest(path.read_bytes()) for path in files if path.exists()]
    return {"folder": digest("".join(parts).encode())}


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _export(job: Mapping[str, Any], name: str) -> None:
    """Export in a process of its own: exporters patch what they import, print, and need memory.

    Raises:
        DiskFull: There is no room for the program.
        Unexportable: It failed, or hung.
    """
    command = [sys.executable, "-P", "-m", "protege.objectives.latency.exporting"]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    what = f"{name} could not be exported for {job['runtime']} in {job['precision']}"
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=EXPORT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise Unexportable(f"{what}: not done after {EXPORT_S} s") from None
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.strip()]
    cause = said[-1] if said else f"exit code {done.returncode}"
    if "No space left" in done.stderr or shutil.disk_usage(job["folder"]).free < 2**20:
        raise DiskFull(f"{job['folder']}: no space left on the device; make room, then go on")
    raise Unexportable(f"{what}: {cause}")
