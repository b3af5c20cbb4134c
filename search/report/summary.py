"""The first screen of the report: the model, how it was measured, and the result in a sentence."""

from collections.abc import Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import Trial
from protege.search.records.wording import millions, significant, titled

GENERIC = {"model", "models", "checkpoint", "weights", "teacher", "snapshot"}
"""Names of folders that say nothing about the model in them."""


def model_name(teacher: Mapping[str, Any]) -> str:
    """Return the name of the teacher: its Hugging Face id, or the name of its folder."""
    source = str(teacher.get("hub_id") or teacher.get("source") or "an unrecorded teacher")
    path = PurePath(source)
    if not path.is_absolute() and source.count("/") <= 1:
        return source
    for part in reversed(path.parts):
        if part.startswith("models--"):  # the cache of the Hugging Face hub
            return part.removeprefix("models--").replace("--", "/")
    telling = [part for part in path.parts if part.lower() not in GENERIC]
    return telling[-1] if telling else path.name


def conditions(front: StudyResult) -> str:
    """Return device and runtime, workload, data, date and study in one line."""
    about, details = front.about, _details(front)
    targets = dict.fromkeys(str(one["target"]) for one in details if "target" in one)
    data = front.identity.get("distillation") or {}
    found = [
        str(about.get("processor", "")),
        *targets,
        *dict.fromkeys(_workload(one, about) for one in about.get("workloads", {}).values()),
        _data(data) if isinstance(data, Mapping) else "",
        str(about.get("date", "")),
        f"study {front.name}",
    ]
    return " · ".join(part for part in found if part)


def headline(front: StudyResult, trial: Trial | None) -> str:
    """Return the result in one sentence: what the student at the knee, if any, gains and keeps."""
    if trial is None:
        return "No student is on the front yet."
    gains = [_gain(trial, front.teacher, one) for one in front.objectives.records]
    fast = [gain for gain in gains if gain.endswith("faster")]
    kept = " and ".join(gain for gain in gains if gain not in fast)
    said = " at ".join(part for part in (" and ".join(fast), kept) if part)
    size = f"; it has {millions(trial.parameters)} parameters" if trial.parameters else ""
    share = front.share_of_teacher(trial)
    size += f", {share} of the teacher's" if size and share else ""
    verb = "is" if fast else "is at"
    return f"The student at the knee of the front, t{trial.number}, {verb} {said}{size}."


def _gain(trial: Trial, teacher: Trial | None, objective: ObjectiveRecord) -> str:
    """Compare a student with the teacher in one objective, or give its value."""
    found = trial.measurements[objective.name]
    speedup = found.details.get("speedup")
    if isinstance(speedup, float) and isfinite(speedup):
        return f"{speedup:.1f} times faster"
    own = teacher.measurements.get(objective.name) if teacher else None
    title = titled(objective).lower() if not objective.unit else titled(objective)
    if own is None or own.value <= 0 or found.value < 0:
        return f"{title} {significant(found.value)}"
    return f"{found.value / own.value:.0%} of the teacher's {title}"


def _details(front: StudyResult) -> list[Mapping[str, Any]]:
    return [one.details for trial in front.trials for one in trial.measurements.values()]


def _workload(one: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    batch = f"batch {one.get('batch_size', 1)}"
    if str(about.get("teacher", {}).get("task", "")).startswith("image"):
        return batch  # an image has as many tokens as it has
    new = f", {one['new_tokens']} new" if one.get("new_tokens") else ""
    return f"{batch}, {one.get('prompt_tokens', 0)} tokens{new}"


def _data(distillation: Mapping[str, Any]) -> str:
    """Name the training data by its kind and fingerprint, with the training steps."""
    data = distillation.get("data")
    if not isinstance(data, Mapping):
        return ""
    named = f"{data.get('kind', 'data')} {str(data.get('fingerprint', ''))[:8]}".strip()
    steps = distillation.get("steps")
    return f"{steps} steps on {named}" if steps else named
