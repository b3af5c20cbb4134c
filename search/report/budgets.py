"""The budget control of the report: the data to choose a student as `Front.pick` does."""

from math import isfinite
from typing import Any, NamedTuple

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import SPEEDUP, ObjectiveRecord, value_of
from protege.search.records.results import kept_layers
from protege.search.records.trial import Trial
from protege.search.records.wording import (
    DOMINATED_BY,
    OVERTAKEN_BY,
    RARELY_CUT,
    SIZES,
    WITHIN_NOISE,
    figure,
    listed,
    millions,
    significant,
    titled,
)
from protege.search.report.commands import commands
from protege.search.report.style import CHOSEN, named
from protege.search.report.views import place

SHOWN = tuple(name for name in SIZES if not name.endswith("policy") and name != "healing")
"""The sizes on a card; those of `RARELY_CUT` only where they differ from the teacher's."""

FLOAT32_BYTES = 4


class Control(NamedTuple):
    """A slider and a number field: the loosest value of the slider stands for no budget."""

    title: str
    bound: str
    low: float
    high: float
    loosest: float


class Card(NamedTuple):
    """One student: rows of term, value and ratio to the teacher, neighbours, and commands.

    The commands are lines by what they are, for each way to name the run folder.
    """

    trial: int
    label: str
    rows: list[tuple[str, str, str]]
    neighbours: list[str]
    commands: list[tuple[str, list[tuple[str, str]]]]


class BudgetControl(NamedTuple):
    """The controls, a card for each student, and the JSON that the script chooses by."""

    controls: list[Control]
    cards: list[Card]
    knee: int
    data: dict[str, Any]


def budget_control(
    front: StudyResult,
    objectives: list[ObjectiveRecord],
    latency: ObjectiveRecord | None,
    knee: Trial,
) -> BudgetControl:
    """Return the budget control.

    Args:
        front: A study with students on its front.
        objectives: What a budget can bound, from `protege.search.analysis.choosing.bounded`.
        latency: The objective that the speedup comes from, if any.
        knee: The student at the knee of the front.
    """
    found = knee.number
    controls = [_control(front, one) for one in objectives]
    cards = [_card(front, at) for at in range(len(front.students))]
    return BudgetControl(controls, cards, found, _data(front, objectives, latency, found))


def _data(
    front: StudyResult,
    objectives: list[ObjectiveRecord],
    latency: ObjectiveRecord | None,
    knee: int,
) -> dict[str, Any]:
    """Return the values, the dominance within noise and the order of objectives.

    `stands_for` is the place of the objective that a budget is on: the latency for a speedup.
    """
    own = front.objectives.records
    numbers = {trial.number: at for at, trial in enumerate(front.students)}
    rows = {trial.number: row for row, trial in enumerate(front.trials)}  # see `views.points`
    return {
        "ring": CHOSEN,
        "own": len(own),
        "objectives": [
            {
                "title": named(one),
                "sign": one.sign,
                "stands_for": objectives.index(latency if one is SPEEDUP and latency else one),
            }
            for one in objectives
        ],
        "students": [
            {
                "trial": trial.number,
                "label": trial.label,
                "row": rows[trial.number],
                "values": [_value(trial, one) for one in objectives],
                "above": [numbers[n] for n in front.dominators[trial.number] if n in numbers],
            }
            for trial in front.students
        ],
        "choices": [numbers[trial.number] for trial in front.choices],
        "knee": numbers[knee],
    }


def _value(trial: Trial, objective: ObjectiveRecord) -> float | None:
    """Return the value that a budget bounds, or None if it was not measured."""
    value = value_of(trial, objective)
    return value if isfinite(value) else None


def _control(front: StudyResult, objective: ObjectiveRecord) -> Control:
    values = [_value(trial, objective) for trial in front.students]
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    least = objective.direction == "minimize"
    bound = "at most" if least else "at least"
    return Control(named(objective), bound, low, high, high if least else low)


def _card(front: StudyResult, at: int) -> Card:
    trial = front.students[at]
    rows = [*_figures(front, trial), *_parameters(front, trial), *_sizes(front, trial)]
    if kept := kept_layers(front.folder, trial):
        rows.append(("kept layers", kept, ""))
    found = (
        (WITHIN_NOISE, front.ties),
        (DOMINATED_BY, front.dominated),
        (OVERTAKEN_BY, front.overtaken),
    )
    rows += [(words, listed(of[trial.number]), "") for words, of in found if of.get(trial.number)]
    sides = (("One step down the front", at - 1), ("One step up the front", at + 1))
    steps = [
        f"{side}: {_brief(front, front.students[beside])}"
        for side, beside in sides
        if 0 <= beside < len(front.students)
    ]
    return Card(trial.number, trial.label, rows, steps, commands(front, trial))


def _sizes(front: StudyResult, trial: Trial) -> list[tuple[str, str, str]]:
    own = trial.architecture
    whole = front.about.get("teacher", {}).get("architecture") or {}
    shown = [name for name in SHOWN if own.get(name)]
    if own.get("num_key_value_heads") == own.get("num_attention_heads"):
        shown = [name for name in shown if name != "num_key_value_heads"]
    return [
        (SIZES[name], f"{own[name]:,}", f"{own[name] / whole[name]:.0%}" if whole.get(name) else "")
        for name in shown
        if name not in RARELY_CUT[1:] or own[name] != whole.get(name)
    ]


def _figures(front: StudyResult, trial: Trial) -> list[tuple[str, str, str]]:
    """Return each objective with its error and its ratio to the teacher's, and the speedup."""
    teacher = front.teacher.measurements if front.teacher else {}
    again = front.confirmed.get(trial.number)
    rows = []
    for one in front.objectives.records:
        found, own = trial.measurements[one.name], teacher.get(one.name)
        ratio = f"{found.value / own.value:.0%}" if own and own.value > 0 else ""
        rows.append((titled(one), figure(found), ratio))
        if again and (value := again.value(one.name)) is not None:
            rows.append((f"{titled(one)}, confirmed", significant(value, 4), ""))
    if SPEEDUP.name not in front.objectives.names and isfinite(trial.speedup):
        speedup, error = place(trial, SPEEDUP)
        rows.append(("times faster", f"{speedup:.2f} ± {error:.2g}", ""))
    return rows


def _parameters(front: StudyResult, trial: Trial) -> list[tuple[str, str, str]]:
    """Return the parameters and the memory that they take, if they were counted."""
    if not trial.parameters:
        return []
    share = front.share_of_teacher(trial)
    megabytes = f"{significant(trial.parameters * FLOAT32_BYTES / 1e6)} MB"
    return [
        ("parameters", millions(trial.parameters), share),
        ("weights in float32", megabytes, share),
    ]


def _brief(front: StudyResult, trial: Trial) -> str:
    values = ", ".join(
        f"{titled(one)} {significant(trial.measurements[one.name].value)}"
        for one in front.objectives.records
    )
    return f"t{trial.number}, {values}"
