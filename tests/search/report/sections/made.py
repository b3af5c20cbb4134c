"""A study of students whose values follow from their sizes by known laws."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from protege.objectives import Measurement
from protege.search import Front, State, Trial
from protege.search.records.objectives import ObjectiveRecords
from tests.search.report.drawn import ABOUT, LATENCY, RETENTION
from tests.search.toys import OWN

WHOLE = OWN.fields()
"""Four layers of 24 with 40 neurons."""

GRID = [(layers, hidden) for layers in (1, 2, 3) for hidden in (8, 16, 24)]
"""Depths and widths of the students."""


def latency_ms(layers: int, hidden: int) -> float:
    """The law of the latency: proportional to depth and width."""
    return layers * hidden / 4


def retention(layers: int, hidden: int) -> float:
    """The law of the quality: depth counts twice as much as width."""
    return float((layers / 4) ** 0.4 * (hidden / 24) ** 0.2)


def student(number: int, layers: int, hidden: int, **changes: Any) -> Trial:
    """A finished student of these sizes, with 20 samples of its calls."""
    value = latency_ms(layers, hidden)
    ratio = value / latency_ms(4, 24)
    samples = tuple(ratio * (0.9 + 0.01 * at) for at in range(21))
    details: dict[str, float | str] = {
        "ratio_to_teacher": ratio,
        "speedup": 1 / ratio,
        "grade": "A",
    }
    found = {
        "latency_ms": Measurement(value, 0.1, samples, details),
        "retention": Measurement(retention(layers, hidden), 0.01),
    }
    own = WHOLE | {"num_hidden_layers": layers, "hidden_size": hidden}
    given: dict[str, Any] = {"state": State.COMPLETE, "measurements": found} | changes
    return Trial(number, f"key-{number}", own, **given)


def made(places: Iterable[tuple[int, int]] = GRID, *others: Trial, **changes: Any) -> Front:
    """A study with the teacher as trial 0, and students of these depths and widths from 10 on."""
    teacher = student(0, 4, 24)
    students = [student(10 + at, *place) for at, place in enumerate(places)]
    objectives = ObjectiveRecords((LATENCY, RETENTION))
    about = ABOUT | {"naive": None} | changes.pop("about", {})
    given: dict[str, Any] = {"name": "toy", "folder": Path("runs/toy")} | changes
    trials = (teacher, *students, *others)
    return Front(objectives=objectives, trials=trials, about=about, **given)
