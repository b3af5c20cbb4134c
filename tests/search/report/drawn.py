"""Fronts made up by hand, for what is drawn of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from protege.objectives import Direction, Measurement
from protege.search import Front, State, Trial
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from tests.search.toys import OWN

ABOUT = {
    "teacher": {"key": "key-0", "source": "org/teacher", "architecture": OWN.fields()},
    "naive": "key-1",
    "students": 61,
    "seconds": {"latency": 50.0, "distil": 3550.0, "propose": 400.0},
}
"""A study whose first trial was the teacher and whose second was the naive half."""


def objective(
    name: str, direction: Direction = "minimize", limit: float | None = None
) -> ObjectiveRecord:
    """An objective whose unit is the end of its name, if that is one."""
    unit = {"ms": "ms", "mb": "MB"}.get(name.rpartition("_")[2], "")
    return ObjectiveRecord(name, unit, direction, limit)


LATENCY, RETENTION = objective("latency_ms"), objective("retention", "maximize")


def student(number: int, values: Mapping[str, float], **changes: Any) -> Trial:
    """A trial of the teacher's sizes; the spread of every value is a hundredth of it."""
    found = {
        name: Measurement(value, abs(value) / 100, (), _details(name, value))
        for name, value in values.items()
    }
    own = {"num_hidden_layers": 1 + number % 4}
    trial = Trial(number, f"key-{number}", OWN.fields() | own, State.COMPLETE, found)
    return replace(trial, **changes)


def drawn(
    objectives: Iterable[ObjectiveRecord],
    rows: Iterable[Iterable[float]],
    *others: Trial,
    **changes: Any,
) -> Front:
    """The front of complete trials with these values, one row a trial, and of others told after."""
    named = ObjectiveRecords(tuple(objectives))
    made = [student(i, dict(zip(named.names, row, strict=True))) for i, row in enumerate(rows)]
    given: dict[str, Any] = {"name": "toy", "folder": Path("runs/toy"), "about": ABOUT} | changes
    return Front(objectives=named, trials=(*made, *others), **given)


def classic(*others: Trial, limit_ms: float | None = None, **changes: Any) -> Front:
    """A teacher (0), a naive half (1) that another (4) beats, and three more on the front."""
    objectives = [objective("latency_ms", limit=limit_ms), RETENTION]
    rows = [(40.0, 1.0), (10.0, 0.30), (20.0, 0.80), (30.0, 0.90), (8.0, 0.50)]
    return drawn(objectives, rows, *others, **changes)


def _details(name: str, value: float) -> dict[str, float | str]:
    if name == "latency_ms":
        return {"ratio_to_teacher": value / 40, "speedup": 40 / value, "grade": "A", "pairs": 30.0}
    return {"cosine": value} if name == "retention" else {}
