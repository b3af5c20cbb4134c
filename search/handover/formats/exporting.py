"""Write a student's exports for other runtimes beside its checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from protege.search.handover.checkpoint import agreement_text, model_card
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.formats.table import Format, checked_format
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput, DiskFull, ProtegeError
from protege.spaces.files.atomic import atomic, raise_if_full, remove, write_text
from protege.spaces.files.manifest import write_manifest

ENTRY = "exports"
"""The entry of ``protege.json`` with a record for each export, by its file."""


class Unexportable(ProtegeError):
    """A student cannot be written in a format, or answers differently there."""


def export_formats(
    folder: str | Path,
    formats: Iterable[str],
    precision: str = "float32",
    *,
    python: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write a student's model in other formats, inside its folder.

    Each export is loaded in its runtime and compared with the PyTorch model; the measured agreement
    is recorded in ``protege.json`` and on the model card.

    Args:
        folder: A folder that ``protege export`` or ``protege train`` wrote.
        formats: ``onnx``, ``openvino``, ``gguf`` or ``executorch``.
        precision: ``float32``, ``float16``, ``bfloat16``, ``int8`` or ``int4``.
        python: The interpreter that has the runtime; the current one if empty.
        tell: Prints a line.

    Returns:
        The model's file in each format.

    Raises:
        BadInput: The folder is not a student's, the format does not support the model, or its
            runtime is not installed.
        Unexportable: The export failed, or answers differently.
        DiskFull: There is no room.
    """
    student = ExportedStudent.read(folder)
    task = Task(student.teacher["task"])
    config = _config(student.folder)
    chosen = [checked_format(name, precision, task, config, python) for name in formats]
    found = []
    for one in chosen:
        record = _exported(student.folder, task, one, precision, python)
        found.append(student.folder / one.files[precision])
        tell(_line(one.files[precision], record))
    return found


def copied(folder: Path, target: Path) -> Path:
    """Copy a student's folder to a new one.

    Raises:
        BadInput: The new folder is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: not empty; export into a new folder, or remove this one first")
    if target.exists():
        target.rmdir()
    with atomic(target) as scratch:
        shutil.copytree(folder, scratch, copy_function=shutil.copyfile)
    return target


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder / 'config.json'}: cannot be read ({error})") from error
    return found


def _exported(
    folder: Path, task: Task, chosen: Format, precision: str, python: str
) -> dict[str, Any]:
    """Write one export, compare it, move it into the folder and record it there."""
    place = folder / chosen.files[precision]
    scratch = folder / f".{chosen.name}-{precision}.{os.getpid()}"
    job = {
        "folder": str(folder.resolve()),
        "task": task.value,
        "format": chosen.name,
        "precision": precision,
        "target": str((scratch / "files" / place.name).resolve()),
        "record": str((scratch / "record.json").resolve()),
    }
    try:
        scratch.mkdir()
        _run(job, python)
        record: dict[str, Any] = json.loads((scratch / "record.json").read_text(encoding="utf-8"))
        place.parent.mkdir(exist_ok=True)
        for name in record["files"]:
            (scratch / "files" / name).replace(place.parent / name)
    except OSError as error:
        raise_if_full(place, error)
        raise
    finally:
        remove(scratch)
    record |= {
        "format": chosen.name,
        "precision": precision,
        "versions": _versions([*chosen.needed(precision).values()], python),
    }
    _record(folder, chosen.files[precision], record)
    return record


def _run(job: Mapping[str, str], python: str) -> None:
    """Run the worker.

    Raises:
        Unexportable: It failed; the message is its last line.
        DiskFull: It had no room.
    """
    done = subprocess.run(
        [python or sys.executable, "-P", "-m", "protege.search.handover.formats.worker"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if "No space left" in done.stderr or shutil.disk_usage(job["folder"]).free < 2**20:
        raise DiskFull(f"{job['folder']}: no space left on the device; make room, then go on")
    said = lines[-1] if lines else f"exit code {done.returncode}"
    raise Unexportable(
        f"{job['folder']}: could not be exported as {job['format']} in {job['precision']}: {said}"
    )


def _versions(packages: list[str], python: str) -> dict[str, str]:
    """Return the versions of the packages; only those of this interpreter are known."""
    names = ["torch", "transformers", *([] if python else packages)]
    return {name: version(name) for name in names}


def _record(folder: Path, file: str, record: Mapping[str, Any]) -> None:
    """Add an export to the manifest, and to the model card unless that was edited."""
    manifest = dict(ExportedStudent.read(folder).manifest)
    card = folder / "README.md"
    is_ours = card.is_file() and card.read_text(encoding="utf-8") == model_card(manifest)
    manifest[ENTRY] = {**manifest.get(ENTRY, {}), file: dict(record)}
    write_manifest(folder, manifest)
    if is_ours:
        write_text(card, model_card(manifest))


def _line(file: str, record: Mapping[str, Any]) -> str:
    """Return the line that describes an export to the user."""
    return f"{file}: {record['bytes'] / 1e6:.1f} MB; {agreement_text(record['agreement'])}"
