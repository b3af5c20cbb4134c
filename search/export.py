"""A chosen student as a plain Hugging Face checkpoint, with its model card and its record."""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from protege.search.trial import State, Trial
from protege.spaces import BadInput
from protege.spaces.cache import atomic, remove, write_text
from protege.spaces.student import MANIFEST, write_manifest


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
