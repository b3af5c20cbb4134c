"""The data of the report's figures, as frames; drawing makes no further decisions."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import inf, isfinite, nan

import pandas as pd

from protege.search.analysis.result import StudyResult
from protege.search.records.baseline import BaselineRecord
from protege.search.records.objectives import PARAMETERS, SPEEDUP, ObjectiveRecord
from protege.search.records.trial import State, Trial
from protege.search.report.style import (
    DOMINATED,
    FRONT,
    NAIVE,
    OVER,
    SHADED,
    STOPPED,
    TEACHER,
    TIED,
    TRIAL,
)

PLACES = ("x", "x_spread", "y", "y_spread")

APART = (0.07, 0.05)
"""Minimum distance of two labels, as shares of a plot's width and height."""


def pairs(objectives: Sequence[ObjectiveRecord]) -> list[tuple[ObjectiveRecord, ObjectiveRecord]]:
    """Return the pairs of objectives to plot, x before y.

    Each minimised objective is paired with each maximised one, or any two if all have one
    direction. A single objective is plotted over the trial number.
    """
    least = [objective for objective in objectives if objective.direction == "minimize"]
    most = [objective for objective in objectives if objective.direction == "maximize"]
    if len(objectives) == 1:
        return [(TRIAL, objectives[0])]
    return list(product(least, most)) or list(combinations(objectives, 2))


def points(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> pd.DataFrame:
    """Return the trials with values on both axes, in order.

    Returns:
        ``row`` (the place among the trials of the study), ``trial``, ``x``, ``x_spread``, ``y``,
        ``y_spread``, ``kind`` (`FRONT`, `SHADED`, `TIED`, `DOMINATED`, `OVER` or `STOPPED`),
        ``role`` (`TEACHER`, `NAIVE` or empty), ``family`` (that of a student of another family than
        the teacher's, else empty), ``step`` (no trial within the limits is better on
        both axes) and ``labelled`` (a student on the front, with room for its number).
    """
    kinds = _kinds(front)
    rows = []
    for row, trial in enumerate(front.trials):
        places = (*place(trial, x), *place(trial, y))
        if all(map(isfinite, places)):
            role = _role(front, trial)
            rows.append((row, trial.number, *places, kinds[trial.number], role, trial.other_family))
    frame = pd.DataFrame(rows, columns=["row", "trial", *PLACES, "kind", "role", "family"])
    frame["step"] = frame.index.isin(_steps(frame, x, y))
    frame["labelled"] = frame.index.isin(_with_room(frame))
    return frame


def baselines(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> pd.DataFrame:
    """Return the baselines with values on both axes, in order; over trials, after the last one.

    Returns:
        ``row`` (after those of the trials), ``name``, ``x``, ``x_spread``, ``y`` and ``y_spread``.
    """
    rows = []
    after = (max(trial.number for trial in front.trials) + 1, 0.0)
    for row, one in enumerate(front.baselines, start=len(front.trials)):
        places = (*(after if x is TRIAL else place(one, x)), *place(one, y))
        if all(map(isfinite, places)):
            rows.append((row, one.name, *places))
    return pd.DataFrame(rows, columns=["row", "name", *PLACES])


def confirmed(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> pd.DataFrame:
    """Return the confirmed students with confirmed values on both axes.

    Returns:
        ``row`` (after those of trials and baselines), ``trial_row`` (that of the trial), ``trial``,
        ``x``, ``y``, and the trial's own values ``from_x`` and ``from_y``.
    """
    rows = []
    start = len(front.trials) + len(front.baselines)
    for row, (at, trial, values) in enumerate(confirmations(front), start=start):
        again = [values.get(one.name) for one in (x, y)]
        before = [place(trial, one)[0] for one in (x, y)]
        if None not in again and all(map(isfinite, before)):
            rows.append((row, at, trial.number, *again, *before))
    columns = ["row", "trial_row", "trial", "x", "y", "from_x", "from_y"]
    return pd.DataFrame(rows, columns=columns)


def confirmations(front: StudyResult) -> list[tuple[int, Trial, Mapping[str, float]]]:
    """Return each confirmed trial with its place in the study and its confirmed values by name.

    A value on data that the search never used stands before the other.
    """
    names = (*front.objectives.names, SPEEDUP.name)
    found: list[tuple[int, Trial, Mapping[str, float]]] = []
    for row, trial in enumerate(front.trials):
        again = front.confirmed.get(trial.number)
        if again and trial.state is State.COMPLETE:
            values = {name: value for name in names if (value := again.value(name)) is not None}
            found.append((row, trial, values))
    return found


def place(one: Trial | BaselineRecord, axis: ObjectiveRecord) -> tuple[float, float]:
    """Return the value and standard error on an axis; NaN if not measured."""
    found = one.measurements.get(axis.name)
    if found is not None:
        return found.value, found.spread
    if axis is TRIAL:
        return (one.number, 0.0) if isinstance(one, Trial) else (nan, nan)
    if axis.name == SPEEDUP.name:
        return _speedup(one)
    if axis.name == PARAMETERS.name and isinstance(one, Trial) and one.parameters:
        return one.parameters / 1e6, 0.0
    return nan, nan


def _speedup(one: Trial | BaselineRecord) -> tuple[float, float]:
    """Return the speedup with its error, which is relative to it that of the latency."""
    for found in one.measurements.values():
        speedup = found.details.get(SPEEDUP.name)
        if speedup is not None and found.value:
            return float(speedup), float(speedup) * found.spread / abs(found.value)
    return nan, nan


def _kinds(front: StudyResult) -> dict[int, str]:
    """Return what became of each trial, by number."""
    members = {trial.number for trial in front.members}

    def kind(trial: Trial) -> str:
        if trial.number in members:
            return SHADED if trial.number in front.dominated else FRONT
        if trial.state is State.STOPPED:
            return STOPPED
        if not front.objectives.feasible(trial):
            return OVER
        return TIED if trial.number in front.tied_with_front else DOMINATED

    return {trial.number: kind(trial) for trial in front.trials}


def _role(front: StudyResult, trial: Trial) -> str:
    if front.teacher and trial.number == front.teacher.number:
        return TEACHER
    return NAIVE if trial.key == front.about.get("naive") else ""


def _steps(frame: pd.DataFrame, x: ObjectiveRecord, y: ObjectiveRecord) -> "pd.Index[int]":
    """Return the non-dominated rows within the limits, on these two axes."""
    within = frame[~frame["kind"].isin([OVER, STOPPED])]
    costs = pd.DataFrame({"x": within["x"] * x.sign, "y": within["y"] * y.sign})
    costs = costs.sort_values(["x", "y"])
    return costs.index[costs["y"] < costs["y"].cummin().shift(fill_value=inf)]


def _with_room(frame: pd.DataFrame) -> list[int]:
    """Choose rows on the front whose labels keep `APART`, from left to right."""
    places = frame[["x", "y"]]
    shares = (places - places.min()) / (places.max() - places.min()).replace(0, 1)
    ordered = shares[frame["kind"].isin([FRONT, SHADED]) & (frame["role"] == "")].sort_values("x")
    taken: list[tuple[int, float, float]] = []
    for index, x, y in zip(ordered.index, ordered["x"], ordered["y"], strict=True):
        if all(abs(x - left) > APART[0] or abs(y - low) > APART[1] for _, left, low in taken):
            taken.append((index, x, y))
    return [index for index, _, _ in taken]
