"""The hover texts of points: a few short lines of HTML."""

from collections.abc import Iterable, Mapping
from math import isfinite

from protege.objectives import Measurement
from protege.objectives.latency import ERROR_FLOOR, Grade
from protege.search.analysis.result import StudyResult
from protege.search.records.baseline import BaselineRecord
from protege.search.records.plain import plotted
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    DOMINATED_BY,
    FLOOR,
    listed,
    millions,
    significant,
    titled,
)


def of_trial(front: StudyResult, trial: Trial, ties: Mapping[int, list[int]]) -> str:
    """Describe a trial: its figures, size, and what else a chooser must know.

    Args:
        front: The study.
        trial: One of its trials.
        ties: By trial number, those that it equals within noise in every objective.
    """
    role = front.role(trial)
    name = f"{trial.label} ({role})" if role else trial.label
    size = [f"{trial.speedup:.2f} times faster"] if isfinite(trial.speedup) else []
    if trial.parameters:
        share = front.share_of_teacher(trial)
        size.append(millions(trial.parameters) + (f" ({share})" if share else ""))
    lines = [*_readings(front, trial.measurements), " · ".join(size)]
    lines += [f"{trial.state}" if trial.state is not State.COMPLETE else ""]
    tied, above = ties.get(trial.number), front.dominated.get(trial.number)
    lines += [f"tied with {listed(tied)}"] if tied else []
    lines += [f"{DOMINATED_BY} {listed(above)}"] if above else []
    lines += ["training did not improve it"] if trial.best_step == 0 else []
    lines += [f"training worsened {' and '.join(trial.harmed)}"] if trial.harmed else []
    return _text(name, lines)


def of_baseline(front: StudyResult, one: BaselineRecord) -> str:
    """Describe a baseline by its figures."""
    return _text(one.name, _readings(front, one.measurements))


def of_confirmed(front: StudyResult, trial: Trial, values: Mapping[str, float]) -> str:
    """Describe a student as it was confirmed, each figure with the one of the search."""
    lines = []
    for one in front.objectives.records:
        again = values.get(one.name)
        if again is not None:
            before = significant(trial.measurements[one.name].value)
            lines.append(f"{titled(one)}: {significant(again)} (search: {before})")
    return _text(f"{trial.label}, confirmed", lines)


def _text(name: str, lines: Iterable[str]) -> str:
    return "<br>".join([f"<b>{plotted(name)}</b>", *(plotted(line) for line in lines if line)])


def _readings(front: StudyResult, measurements: Mapping[str, Measurement]) -> list[str]:
    """Return a line for each objective that was measured."""
    found = [(one, measurements.get(one.name)) for one in front.objectives.records]
    return [f"{titled(one)}: {_reading(value)}" for one, value in found if value]


def _reading(found: Measurement) -> str:
    exact = found.spread <= 1e-9 * abs(found.value)
    floor = f" ({FLOOR})" if ERROR_FLOOR in found.details else ""
    error = "" if exact else f" ± {significant(found.spread, 2)}{floor}"
    grade = found.details.get("grade", Grade.A)
    return significant(found.value) + error + ("" if grade == Grade.A else f", grade {grade}")
