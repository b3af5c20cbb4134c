"""Models exported for a runtime: each made once, checked, and kept for every study to come."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Checkpoint, Model, described
from protege.objectives.latency.runtimes.runtimes import Runtime
from protege.objectives.latency.workload import Workload
from protege.objectives.precision import Precision
from protege.spaces.errors import DiskFull, ProtegeError
from protege.spaces.files.atomic import atomic, remove
from protege.spaces.files.hashing import canonical, digest
from protege.spaces.files.locks import locked
from protege.spaces.files.private import made_own

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protege" / "programs"
MOST_BYTES = 8 * 2**30
"""What all programs together may take; those that were used least recently make room."""

EXPORT_S = 900
"""Seconds after which an export counts as hung."""

_INSTEAD = "choose another folder for programs with XDG_CACHE_HOME or Programs(folder=...)"

_FOR_THE_STUDY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a scheduler sends to every process of a job. An exporter that they ended is started
again: the model is not at fault, and the study knows itself when it is to end."""


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
            BadInput: Other users can write in the folder: what lies there is executed.
            Unexportable: The runtime cannot take the model, or answers otherwise than PyTorch.
        """
        key = {
            "model": described(model) | weights_of(model),
            "workload": _shapes(workload),
            "runtime": runtime.name,
            "precision": precision,
            "versions": runtime.versions(),
            "exporter": _exporter(),
        }
        path = made_own(self.folder, _INSTEAD) / digest(canonical(key).encode())
        with _alone(path):
            if (path / MANIFEST).exists():
                os.utime(path)  # used now
                return path
            job = {
                "model": described(model),
                "workload": asdict(workload),
                "runtime": runtime.name,
                "precision": precision,
            }
            with atomic(path) as scratch:
                _export(job | {"folder": str(scratch)}, model.model_class, runtime.interpreter)
                remove(path)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Drop what was used least recently until the rest fits, and what the dead left behind."""
        long_ago = time.time() - 2 * EXPORT_S
        left = self.most_bytes - _size(newest)
        known = [(one.stat().st_mtime, one) for one in self.folder.iterdir() if one != newest]
        for used, path in sorted(known, reverse=True):
            if not (path / MANIFEST).exists():  # somebody is at work on it, or was
                if used < long_ago:
                    remove(path)
                continue
            left -= _size(path)
            if left < 0:
                remove(path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While this process has a program to itself: who comes second finds it exported."""
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock):
        os.utime(lock)  # or what is old would pass for left behind
        yield


def _shapes(workload: Workload) -> dict[str, Any]:
    """What of a workload a program depends on: not how often its step is run."""
    return asdict(workload) | {"new_tokens": min(workload.new_tokens, 1)}


def weights_of(model: Model) -> dict[str, str]:
    """What stands for a checkpoint's files, wherever they are."""
    if not isinstance(model, Checkpoint):
        return {}
    folder = Path(model.folder)
    found = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("config.json")]
    states = [(path, path.stat()) for path in sorted(found)]
    parts = [_content(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return {"folder": digest("".join(parts).encode())}


@cache
def _content(path: Path, _size: int, _changed_ns: int) -> str:
    """What stands for a file's content, read once for as long as it stays as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _exporter() -> str:
    """What stands for the code that exports: other code makes other programs."""
    sources = files("protege.objectives.latency")
    return digest(
        *((sources / name).read_bytes() for name in ("runtimes/exporting.py", "local/inputs.py"))
    )


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _export(job: Mapping[str, Any], name: str, interpreter: str) -> None:
    """Export in a process of its own: exporters patch what they import, print, and need memory.

    Raises:
        DiskFull: There is no room for the program.
        Unexportable: It failed, or hung.
    """
    what = f"{name} could not be exported for {job['runtime']} in {job['precision']}"
    done = _ended(job, interpreter, what)
    if -done.returncode in _FOR_THE_STUDY:
        done = _ended(job, interpreter, what)
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.strip()]
    cause = said[-1] if said else f"exit code {done.returncode}"
    if "No space left" in done.stderr or shutil.disk_usage(job["folder"]).free < 2**20:
        raise DiskFull(f"{job['folder']}: no space left on the device; make room, then go on")
    raise Unexportable(f"{what}: {cause}")


def _ended(
    job: Mapping[str, Any], interpreter: str, what: str
) -> "subprocess.CompletedProcess[str]":
    """Run the exporter on a job, in an empty folder; return how it ended."""
    folder = Path(job["folder"])
    remove(folder)
    folder.mkdir()
    try:
        return subprocess.run(
            [interpreter, "-P", "-m", "protege.objectives.latency.runtimes.exporting"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=EXPORT_S,
            check=False,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
            start_new_session=True,  # Ctrl-C is for the study
        )
    except subprocess.TimeoutExpired:
        raise Unexportable(f"{what}: not done after {EXPORT_S} s") from None
