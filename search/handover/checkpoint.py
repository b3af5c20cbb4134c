"""Export a student as a plain Hugging Face checkpoint with a model card and a record."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from jinja2 import Environment, StrictUndefined

from protege.objectives import Measurement
from protege.search.records.plain import code, printable
from protege.search.records.results import files_in
from protege.search.records.trial import State, Trial
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, write_text
from protege.spaces.files.manifest import MANIFEST, write_manifest

TEACHER = ("fingerprint", "task", "auto_class", "auto_processor", "key", "architecture")
"""Published fields of the teacher, beside its hub id. Its folder is not published."""

OBJECTIVE_FIELDS = ("name", "unit", "direction", "limit")
"""Published fields of an objective. Its declaration is not: it names hosts, users and paths."""

WORDS = ("grade", "clock", "error_floor", "judged_in")
"""Published details of a measurement that are text; their vocabulary is fixed.

Target labels, reasons for throttling and names of meters would identify the machine.
"""


def export(
    trial: Trial,
    stored: Path,
    target: Path,
    about: Mapping[str, Any],
    distillation: Mapping[str, Any] | None = None,
    advice: Sequence[str] = (),
) -> Path:
    """Write the checkpoint, its card and ``protege.json`` to a new folder.

    File modes follow the umask, not the run folder.

    Args:
        trial: The student's trial.
        stored: The folder with its weights; it does not exist if they were not kept.
        target: The new folder.
        about: The record of the study; only listed fields are published.
        distillation: The study's distillation as its identity records it.
        advice: Sentences on this student for its card.

    Raises:
        BadInput: The folder is not empty, or the weights were not kept.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: not empty; export into a new folder, or remove this one first")
    if not (stored / MANIFEST).exists():
        why = "not on the front" if trial.state is State.COMPLETE else trial.state
        raise BadInput(
            f"trial {trial.number} ({trial.label}): weights are kept only for the front, "
            f"and this one is {why}; export one that is on the front"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rmdir()
    with atomic(target) as scratch:
        _copy(stored, scratch)
        manifest = _manifest(trial, stored, about, distillation) | {"advice": [*advice]}
        write_manifest(scratch, manifest)
        write_text(scratch / "README.md", model_card(manifest))
    return target


def card_of_trial(trial: Trial, stored: Path, about: Mapping[str, Any]) -> str:
    """Return the model card of a student; see `export` for the arguments."""
    return model_card(_manifest(trial, stored, about))


TAKEN = ("losses", "weight_decay", "max_tokens", "max_gradient", "layer_decay", "answers")
"""Published fields of a study's distillation, which a full training takes over."""

RATES = ("learning_rate", "full_rate_at")
"""Published fields that it takes over unless another rate is named."""


def published_settings(distillation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the published record of a distillation."""
    return _listed(distillation or {}, TAKEN + RATES)


def published(trial: Trial, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published record of a student: teacher, study, figures.

    Only listed fields are published, never paths, hosts, users or storages.
    """
    asked = about.get("answers_from")
    return {
        "teacher": _model(about["teacher"]),
        **({"answers_from": _model(asked)} if asked else {}),
        "label": trial.label,
        "study": {"name": about["name"], "seed": about["seed"], "trial": trial.number},
        "measurements": {
            name: {"value": found.value, "spread": found.spread, **_details(found)}
            for name, found in trial.measurements.items()
        },
        "training": _trained(trial),
        "goals": [_listed(objective, OBJECTIVE_FIELDS) for objective in about["goals"]],
        "workloads": about["workloads"],
        "precisions": about.get("precisions", {}),
        "versions": {name: version(name) for name in ("protege", "torch", "transformers")},
    }


def _manifest(
    trial: Trial,
    stored: Path,
    about: Mapping[str, Any],
    distillation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest of a student's files with its published record."""
    found: dict[str, Any] = json.loads((stored / MANIFEST).read_text(encoding="utf-8"))
    return found | published(trial, about) | {"distillation": published_settings(distillation)}


def _model(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"hub_id": _hub_id(record), **_listed(record, TEACHER)}


def _copy(stored: Path, target: Path) -> None:
    """Copy the files of a student without their modes."""
    for folder in (path for path in stored.rglob("*") if path.is_dir()):
        (target / folder.relative_to(stored)).mkdir(parents=True, exist_ok=True)
    for name in files_in(stored):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stored / name, target / name)


def _listed(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _details(found: Measurement) -> dict[str, Any]:
    """Return the figures of a measurement and its publishable words."""
    return {
        name: value
        for name, value in found.details.items()
        if name in WORDS or (not isinstance(value, str) and re.fullmatch(r"\w+", name))
    }


def _trained(trial: Trial) -> dict[str, Any] | None:
    """Return how a student was distilled, without the loss of every step."""
    if trial.training is None:
        return None
    record = asdict(trial.training)
    del record["losses"]
    return record


def _hub_id(teacher: Mapping[str, Any]) -> str | None:
    """Return the teacher's id on the hub, or None for a teacher from a folder."""
    found: str | None = teacher["hub_id"]
    try:
        validate_repo_id(found)
    except HFValidationError:
        return None
    return found


def model_card(manifest: Mapping[str, Any]) -> str:
    """Return the README of a student's folder from its ``protege.json``."""
    template = (
        files("protege.search.handover").joinpath("model_card.md").read_text(encoding="utf-8")
    )
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # JSON strings are valid YAML
    environment.filters |= {"yaml": json.dumps, "code": code, "text": printable}
    environment.filters["agreement"] = agreement_text
    return environment.from_string(template).render(**manifest)


def agreement_text(found: Mapping[str, Any]) -> str:
    """Return a measured agreement in words."""
    if "equal" in found:
        return (
            f"{found['equal']:.1%} of {found['tokens']} greedy tokens equal the PyTorch model's "
            f"({found['prompts']} prompts)"
        )
    same = f", same class {found['same_class']:.1%}" if "same_class" in found else ""
    return (
        f"cosine {found['cosine']:.4f} with the PyTorch model's outputs, largest difference "
        f"{found['difference']:.2g}{same} ({found['inputs']} inputs)"
    )
