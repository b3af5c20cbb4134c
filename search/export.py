"""A chosen student as a plain Hugging Face checkpoint, with its model card and its record."""

import json
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from protege.objectives import Candidate
from protege.search.trial import State, Trial
from protege.spaces import BadInput
from protege.spaces.cache import atomic, remove, write_text
from protege.spaces.student import MANIFEST, write_manifest

ARTIFACTS, CHECKPOINTS = "artifacts", "checkpoints"


def artifact(folder: Path, number: int) -> Path:
    """Where the weights of a trial are kept in a run folder."""
    return folder / ARTIFACTS / f"trial-{number:05d}"


def checkpoint(folder: Path, number: int) -> Path:
    """Where the training of a trial is stored while it is under way."""
    return folder / CHECKPOINTS / f"trial-{number:05d}.safetensors"


def keep(folder: Path, number: int, candidate: Candidate) -> None:
    """Store the candidate's student as it is now, whole or not at all."""
    path = artifact(folder, number)
    with atomic(path) as scratch:
        remove(scratch)
        candidate.student.save(scratch)
        remove(path)


def sweep(folder: Path, front: Iterable[int], told: Iterable[int]) -> None:
    """Remove all weights but the front's, and what a process that was killed had begun to store.

    Args:
        folder: The run folder.
        front: The trials whose weights are kept.
        told: Trials with nothing left to train.
    """
    for number in told:
        remove(checkpoint(folder, number))
    kept = {artifact(folder, number) for number in front}
    for path in (folder / ARTIFACTS).glob("*"):
        if path not in kept:
            remove(path)


def export(trial: Trial, stored: Path, target: Path, about: Mapping[str, Any]) -> Path:
    """Write the checkpoint, its card and ``protege.json`` to a new folder.

    Raises:
        BadInput: The folder has something in it, or the weights were not kept.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: not empty; export into a new folder, or remove this one first")
    if not (stored / MANIFEST).exists():
        why = "not on the front" if trial.state is State.COMPLETE else trial.state
        raise BadInput(
            f"trial {trial.number} ({trial.label}): its weights were not kept, for it is "
            f"{why}; export one that is on the front"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rmdir()
    with atomic(target) as scratch:
        remove(scratch)
        shutil.copytree(stored, scratch)
        manifest = json.loads((stored / MANIFEST).read_text(encoding="utf-8"))
        manifest |= _provenance(trial, about)
        write_manifest(scratch, manifest)
        write_text(scratch / "README.md", _card(trial, manifest))
    return target


def _provenance(trial: Trial, about: Mapping[str, Any]) -> dict[str, Any]:
    measured = {
        name: {"value": found.value, "spread": found.spread, **found.details}
        for name, found in trial.measurements.items()
    }
    return {
        "teacher": about["teacher"],
        "study": {"name": about["name"], "seed": about["seed"], "trial": trial.number},
        "measurements": measured,
        "goals": about["goals"],
        "versions": {name: version(name) for name in ("protege", "torch", "transformers")},
    }


def _card(trial: Trial, manifest: Mapping[str, Any]) -> str:
    template = files("protege.search").joinpath("model_card.md").read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(template).render(trial=trial, **manifest)
