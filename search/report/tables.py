"""The tables of the report: the front, the baselines, all trials."""

from collections.abc import Sequence
from math import isfinite

from protege.objectives.latency import ERROR_FLOOR
from protege.search.analysis.result import StudyResult
from protege.search.records.baseline import BaselineRecord
from protege.search.records.goals import Goal
from protege.search.records.trial import Trial
from protege.search.records.wording import (
    CHOSEN,
    DOMINATED_BY,
    FLOOR,
    SIZES,
    WITHIN_NOISE,
    decimals,
    harm,
    listed,
    rarely_cut,
    significant,
    titled,
)
from protege.search.report.parts import Cell, Column, Table


def students(front: StudyResult) -> Table:
    """Return the table of the front, one row per student."""
    goals, members = front.goals.goals, front.members
    speedups = [trial.speedup for trial in members]
    timed = any(map(isfinite, speedups))
    columns = [Column("Trial"), Column("Student", "text")]
    columns += [Column(titled(goal)) for goal in goals]
    columns += [Column("Times faster")] if timed else []
    columns += [Column(f"{place} (ms)") for place in front.measured]
    columns += [Column(words) for words in ("Layers", "Hidden", "Heads", "Feed-forward")]
    more = rarely_cut(front.trials)
    columns += [Column(SIZES[name].capitalize()) for name in more]
    columns += [Column("Policies", "text")]
    noise = [
        (title, found)
        for title, found in ((WITHIN_NOISE, front.ties), (DOMINATED_BY, front.beaten))
        if any(found.values())
    ]
    columns += [Column(title.capitalize(), "text") for title, _ in noise]
    measured = [_measured(members, goal) for goal in goals]
    rows = []
    for index, trial in enumerate(members):
        role = front.role(trial)
        label = f"{trial.label} ({role})" if role else trial.label
        row = [Cell(str(trial.number)), Cell(label), *(cells[index] for cells in measured)]
        row += [Cell(f"{speedups[index]:.2f}")] if timed else []
        row += [Cell(_ms(value)) for value in front.elsewhere(trial).values()]
        row += map(Cell, _sizes(trial, more))
        row += [Cell(listed(found.get(trial.number, ()))) for _, found in noise]
        rows.append(row)
    return Table(columns, rows)


def baselines(front: StudyResult) -> Table:
    """Return the table of the baselines, with the students that each one dominates."""
    goals, found = front.goals.goals, front.baselines
    columns = [Column("Baseline", "text"), *(Column(titled(goal)) for goal in goals)]
    columns += [Column("From", "text"), Column("Dominates", "text"), Column("Why", "sentence")]
    measured = [_measured(found, goal) for goal in goals]
    rows = [
        [
            Cell(one.name),
            *cells,
            Cell(one.source),
            Cell(listed(front.outdone[one.name])),
            Cell("; ".join(f"{name}: {why}" for name, why in one.reasons.items())),
        ]
        for one, *cells in zip(found, *measured, strict=True)
    ]
    return Table(columns, rows)


def all_trials(front: StudyResult) -> Table:
    """Return the table of all trials in order, with state and reason."""
    goals = front.goals.goals
    columns = [Column("Trial"), Column("Student", "text"), Column("State", "text")]
    columns += [Column(titled(goal)) for goal in goals] + [Column("Why", "sentence")]
    measured = [_measured(front.trials, goal) for goal in goals]
    rows = [
        [
            Cell(str(trial.number)),
            Cell(trial.label),
            Cell(str(trial.state)),
            *cells,
            Cell(" ".join([*trial.reason.split(), harm(trial)]).strip()),
        ]
        for trial, *cells in zip(front.trials, *measured, strict=True)
    ]
    return Table(columns, rows)


def _measured(trials: Sequence[Trial | BaselineRecord], goal: Goal) -> list[Cell]:
    """Return a goal's column, with equal decimals and without errors that round to zero."""
    found = [trial.measurements.get(goal.name) for trial in trials]
    places = decimals([one.value for one in found if one])
    cells = []
    for one in found:
        spread = f"{one.spread:,.{places}f}" if one else ""
        shown = any(digit in spread for digit in "123456789")
        text = f"{one.value:,.{places}f}" if one and isfinite(one.value) else "-"
        mark = f"({FLOOR})" if one and shown and ERROR_FLOOR in one.details else ""
        cells.append(Cell(text, spread if shown else "", mark))
    return cells


def _ms(value: float) -> str:
    return significant(value) if isfinite(value) else "-"


def _sizes(trial: Trial, more: Sequence[str]) -> list[str]:
    own = trial.architecture
    heads = str(own["num_attention_heads"])
    if own.get("num_key_value_heads", own["num_attention_heads"]) != own["num_attention_heads"]:
        heads += f" / {own['num_key_value_heads']} KV"
    policies = ", ".join(own.get(name, "none") for name in CHOSEN)
    sizes = [own["num_hidden_layers"], own["hidden_size"], heads, own.get("intermediate_size", "-")]
    return [*map(str, sizes), *(f"{own.get(name, 0):,}" for name in more), policies]
