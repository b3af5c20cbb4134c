"""The cache of exported models: each is exported and checked once, for all studies."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Model, SavedModel, described
from protege.objectives.latency.runtimes.runtimes import Runtime
from protege.objectives.latency.workload import Workload
from protege.objectives.machine.precision import Precision
from protege.spaces.errors import DiskFull, ProtegeError
from protege.spaces.files.atomic import atomic, remove
from protege.spaces.files.hashing import canonical, digest, sha256_of
from protege.spaces.files.locks import locked
from protege.spaces.files.private import made_own

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "protege" / "programs"
MOST_BYTES = 8 * 2**30
"""Maximum bytes of all programs together; the least recently used are deleted first."""

_INSTEAD = "choose another folder for programs with XDG_CACHE_HOME or Programs(folder=...)"

_FOR_THE_STUDY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a cluster scheduler sends to every process of a job. An exporter ended by one is run
again: the model is not at fault, and the study handles its own signal."""


class Unexportable(ProtegeError):
    """A model could not be exported for a runtime; its trial fails."""


@dataclass(frozen=True)
class Programs:
    """A folder of exported programs, each named by a hash of its inputs.

    The hash covers architecture, shapes, runtime, precision and versions, and for a checkpoint its
    weights, because its outputs are checked. The folder may be deleted at any time.

    Attributes:
        folder: Path of the folder.
        most_bytes: Maximum size of all programs together.
        export_s: Seconds after which an export counts as hung.
    """

    folder: Path = field(default=FOLDER)
    most_bytes: int = MOST_BYTES
    export_s: float = 900.0

    def of(self, model: Model, workload: Workload, runtime: Runtime, precision: Precision) -> Path:
        """Return the folder of a model's program; export and check it if it is new.

        Raises:
            BadInput: Other users can write to the folder, whose content is executed.
            Unexportable: The runtime cannot run the model, or its output differs from PyTorch's.
        """
        job = {
            "model": described(model),
            "workload": asdict(workload),
            "runtime": runtime.name,
            "precision": precision,
        }
        key = {
            **job,
            "model": described(model) | weights_of(model),
            # the number of decoding steps does not matter
            "workload": asdict(workload) | {"new_tokens": min(workload.new_tokens, 1)},
            "versions": runtime.versions(),
            "exporter": _exporter_hash(),
        }
        path = made_own(self.folder, _INSTEAD) / digest(canonical(key).encode())
        lock = path.with_name(f".{path.name}.lock")
        with locked(lock):  # a second process waits and then finds it exported
            os.utime(lock)  # old locks are deleted as remains of dead exports
            if (path / MANIFEST).exists():
                os.utime(path)  # the time of the last use
                return path
            with atomic(path) as scratch:
                self._export(job | {"folder": str(scratch)}, model.model_class, runtime.interpreter)
                remove(path)
        self._make_room(path)
        return path

    def _export(self, job: Mapping[str, Any], name: str, interpreter: str) -> None:
        """Export in a separate process, because exporters patch modules, print, and need memory."""
        what = f"{name} could not be exported for {job['runtime']} in {job['precision']}"
        try:
            done = _run_exporter(job, interpreter, self.export_s)
            if -done.returncode in _FOR_THE_STUDY:
                done = _run_exporter(job, interpreter, self.export_s)
        except subprocess.TimeoutExpired:
            raise Unexportable(f"{what}: not done after {self.export_s:g} s") from None
        if done.returncode == 0:
            return
        said = [line for line in done.stderr.splitlines() if line.strip()]
        if "No space left" in done.stderr or shutil.disk_usage(job["folder"]).free < 2**20:
            raise DiskFull(f"{job['folder']}: no space left on the device; make room, then go on")
        raise Unexportable(f"{what}: {said[-1] if said else f'exit code {done.returncode}'}")

    def _make_room(self, newest: Path) -> None:
        """Delete least recently used programs until the rest fits, and remains of dead exports."""
        long_ago = time.time() - 2 * self.export_s
        left = self.most_bytes - _size(newest)
        known = [(one.stat().st_mtime, one) for one in self.folder.iterdir() if one != newest]
        for used, path in sorted(known, reverse=True):
            if not (path / MANIFEST).exists():  # an export in progress, or left by a dead process
                if used < long_ago:
                    remove(path)
                continue
            left -= _size(path)
            if left < 0:
                remove(path)


def weights_of(model: Model) -> dict[str, str]:
    """Return a hash of a checkpoint's files as its ``folder``; empty for a blueprint."""
    if not isinstance(model, SavedModel):
        return {}
    folder = Path(model.folder)
    found = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("config.json")]
    states = [(path, path.stat()) for path in sorted(found)]
    parts = [_file_hash(path, state.st_size, state.st_mtime_ns) for path, state in states]
    return {"folder": digest("".join(parts).encode())}


@cache
def _file_hash(path: Path, _size: int, _changed_ns: int) -> str:
    """Hash a file; cached while its size and modification time stay the same."""
    return sha256_of(path)


@cache
def _exporter_hash() -> str:
    """Hash the code that exports, so that changed code makes new programs."""
    sources = files("protege.objectives.latency")
    return digest(
        *((sources / name).read_bytes() for name in ("runtimes/exporting.py", "local/inputs.py"))
    )


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _run_exporter(
    job: Mapping[str, Any], interpreter: str, seconds: float
) -> "subprocess.CompletedProcess[str]":
    """Run the exporter on a job, in an empty folder."""
    folder = Path(job["folder"])
    remove(folder)
    folder.mkdir()
    return subprocess.run(
        [interpreter, "-P", "-m", "protege.objectives.latency.runtimes.exporting"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        start_new_session=True,  # Ctrl-C is for the study
    )
