"""The data of the report's figures, as frames; drawing makes no further decisions."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from math import inf, isfinite, nan

import pandas as pd

from protege.objectives import Measurement
from protege.objectives.latency import ERROR_FLOOR
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    AS_CUT,
    CHOSEN,
    DOMINATED_BY,
    FLOOR,
    SIZES,
    grade_note,
    listed,
    significant,
    titled,
)
from protege.search.report.style import DOMINATED, FRONT, NAIVE, OVER, STOPPED, TEACHER, TRIAL

HOUSEKEEPING = {
    "ratio_to_teacher",
    "clock",
    "pairs",
    "processes",
    "cold_ms",
    "steps",
    "best_step",
    "low",
    "high",
    "measured_error_ms",
    ERROR_FLOOR,
}
"""Technical details of measurements, which hovers leave out."""

HOVER_LINES = (
    ("num_hidden_layers", "num_decoder_layers", "hidden_size"),
    ("num_attention_heads", "num_key_value_heads", "intermediate_size"),
    ("num_experts", "moe_intermediate_size", "vocab_size"),
    CHOSEN,
)
"""Lines of a hover."""

INDENT = "\N{NO-BREAK SPACE}" * 4
"""Indentation of details in a hover."""

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
        ``trial``, ``x``, ``x_spread``, ``y``, ``y_spread``, ``kind`` (`FRONT`, `DOMINATED`, `OVER`
        or `STOPPED`), ``role`` (`TEACHER`, `NAIVE` or empty), ``hover`` (a text of HTML lines),
        ``step`` (no trial within the limits is better on both axes) and ``labelled`` (on the
        front, with room for its number).
    """
    members = {trial.number for trial in front.members}
    rows = []
    for trial in front.trials:
        places = (*_place(trial, x), *_place(trial, y))
        if all(map(isfinite, places)):
            role = _role(front, trial)
            kind = _kind(front, trial, members)
            rows.append((trial.number, *places, kind, role, _hover(front, trial)))
    columns = ["trial", "x", "x_spread", "y", "y_spread", "kind", "role", "hover"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["step"] = frame.index.isin(_steps(frame, x, y))
    frame["labelled"] = frame.index.isin(_with_room(frame))
    return frame


def baselines(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> pd.DataFrame:
    """Return the baselines with values on both axes, in order; over trials, after the last one.

    Returns:
        ``name``, ``x``, ``x_spread``, ``y``, ``y_spread`` and ``hover``.
    """
    rows = []
    after = Measurement(max(trial.number for trial in front.trials) + 1)
    for one in front.baselines:
        known = {**one.measurements, TRIAL.name: after} if x is TRIAL else one.measurements
        found = [known.get(objective.name) for objective in (x, y)]
        places = [value for each in found if each for value in (each.value, each.spread)]
        if len(places) == 4:
            lines = [plotted(line, keep=INDENT) for line in _readings(front, one.measurements)]
            rows.append((one.name, *places, "<br>".join([f"<b>{plotted(one.name)}</b>", *lines])))
    return pd.DataFrame(rows, columns=["name", "x", "x_spread", "y", "y_spread", "hover"])


def _place(trial: Trial, objective: ObjectiveRecord) -> tuple[float, float]:
    """Return the trial's value and standard error on an axis; NaN if not measured."""
    if objective is TRIAL:
        return trial.number, 0.0
    found = trial.measurements.get(objective.name)
    return (found.value, found.spread) if found else (nan, nan)


def _kind(front: StudyResult, trial: Trial, members: set[int]) -> str:
    if trial.number in members:
        return FRONT
    if trial.state is State.STOPPED:
        return STOPPED
    return DOMINATED if front.objectives.feasible(trial) else OVER


def _role(front: StudyResult, trial: Trial) -> str:
    if front.teacher and trial.number == front.teacher.number:
        return TEACHER
    return NAIVE if trial.key == front.about.get("naive") else ""


def _hover(front: StudyResult, trial: Trial) -> str:
    """Return label, sizes, policies and measurements of a student as HTML lines."""
    own = trial.architecture
    lines = [
        " · ".join(f"{SIZES[name]} {own[name]}" for name in group if name in own)
        for group in HOVER_LINES
    ]
    lines += _readings(front, trial.measurements)
    above = front.dominated.get(trial.number)
    lines += [f"{DOMINATED_BY} {listed(above)}"] if above else []
    lines += [f"Training: {AS_CUT}"] if trial.best_step == 0 else []
    lines += [trial.harm]
    text = [plotted(line, keep=INDENT) for line in lines if line]
    return "<br>".join([f"<b>{plotted(trial.label)}</b>", *text])


def _readings(front: StudyResult, measurements: Mapping[str, Measurement]) -> list[str]:
    """Return the lines of a hover with the value of each objective, its details and its grade."""
    lines: list[str] = []
    for objective in front.objectives.records:
        found = measurements.get(objective.name)
        if found is not None:
            note = grade_note(found)
            lines += [f"{titled(objective)}: {_reading(found)}", _details(found)]
            lines += [INDENT + note] if note else []
    return [line for line in lines if line]


def _reading(found: Measurement) -> str:
    exact = found.spread <= 1e-9 * abs(found.value)
    floor = f" ({FLOOR})" if ERROR_FLOOR in found.details else ""
    error = f" ± {significant(found.spread, 2)}{floor}"
    return significant(found.value) + ("" if exact else error)


def _details(found: Measurement) -> str:
    """Return up to three informative details of a measurement, indented."""
    words = [
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else significant(value)}"
        for name, value in found.details.items()
        if name not in HOUSEKEEPING and value != found.value
    ]
    return INDENT + ", ".join(words[:3]) if words else ""


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
    ordered = shares[frame["kind"] == FRONT].sort_values("x")
    taken: list[tuple[int, float, float]] = []
    for index, x, y in zip(ordered.index, ordered["x"], ordered["y"], strict=True):
        if all(abs(x - left) > APART[0] or abs(y - low) > APART[1] for _, left, low in taken):
            taken.append((index, x, y))
    return [index for index, _, _ in taken]
