"""The tables of the report: the front, the baselines, all trials."""

from collections.abc import Sequence
from math import isfinite

from protege.objectives.latency import ERROR_FLOOR
from protege.search.analysis.result import StudyResult
from protege.search.records.baseline import BaselineRecord
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import Trial
from protege.search.records.wording import (
    CHOSEN,
    DOMINATED_BY,
    FLOOR,
    OVERTAKEN_BY,
    SIZES,
    WITHIN_NOISE,
    decimals,
    listed,
    millions,
    rarely_cut,
    significant,
    titled,
)
from protege.search.report.parts import Cell, Table, TableColumn


def students(front: StudyResult) -> Table:
    """Return the table of the front, one row per student."""
    objectives, members = front.objectives.records, front.members
    speedups = [trial.speedup for trial in members]
    timed = any(map(isfinite, speedups))
    columns = [TableColumn("Trial"), TableColumn("Student", "text")]
    columns += [TableColumn(titled(one)) for one in objectives]
    again = _confirmed(front)
    columns += [TableColumn(f"{title}, confirmed") for title in again]
    columns += [TableColumn("Times faster")] if timed else []
    sized = any(trial.parameters for trial in members)
    columns += [TableColumn("Parameters"), TableColumn("Of the teacher")] if sized else []
    columns += [TableColumn(f"{place} (ms)") for place in front.measured]
    columns += [TableColumn(words) for words in ("Layers", "Hidden", "Heads", "Feed-forward")]
    more = rarely_cut(front.trials)
    columns += [TableColumn(SIZES[name].capitalize()) for name in more]
    columns += [TableColumn("Policies", "text")]
    noise = [
        (title, found)
        for title, found in (
            (WITHIN_NOISE, front.ties),
            (DOMINATED_BY, front.dominated),
            (OVERTAKEN_BY, front.overtaken),
        )
        if any(found.values())
    ]
    columns += [TableColumn(title.capitalize(), "text") for title, _ in noise]
    measured = [_measured(members, objective) for objective in objectives]
    rows = []
    for index, trial in enumerate(members):
        role = front.role(trial)
        label = f"{trial.label} ({role})" if role else trial.label
        row = [Cell(str(trial.number)), Cell(label), *(cells[index] for cells in measured)]
        row += [cells[index] for cells in again.values()]
        row += [Cell(f"{speedups[index]:.2f}")] if timed else []
        row += _parameters(front, trial) if sized else []
        row += [Cell(_ms(value)) for value in front.elsewhere(trial).values()]
        row += map(Cell, _sizes(trial, more))
        row += [Cell(listed(found.get(trial.number, ()))) for _, found in noise]
        rows.append(row)
    return Table(columns, rows)


def baselines(front: StudyResult) -> Table:
    """Return the table of the baselines, with the students that each one dominates."""
    objectives, found = front.objectives.records, front.baselines
    columns = [TableColumn("Baseline", "text"), *(TableColumn(titled(one)) for one in objectives)]
    columns += [TableColumn("From", "text"), TableColumn("Dominates", "text")]
    columns += [TableColumn("Why", "sentence")]
    measured = [_measured(found, objective) for objective in objectives]
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
    objectives = front.objectives.records
    columns = [TableColumn("Trial"), TableColumn("Student", "text"), TableColumn("State", "text")]
    columns += [TableColumn(titled(one)) for one in objectives]
    columns += [TableColumn("Why", "sentence")]
    measured = [_measured(front.trials, objective) for objective in objectives]
    rows = [
        [
            Cell(str(trial.number)),
            Cell(trial.label),
            Cell(str(trial.state)),
            *cells,
            Cell(" ".join([*trial.reason.split(), trial.harm]).strip()),
        ]
        for trial, *cells in zip(front.trials, *measured, strict=True)
    ]
    return Table(columns, rows)


def _measured(trials: Sequence[Trial | BaselineRecord], objective: ObjectiveRecord) -> list[Cell]:
    """Return an objective's column, with equal decimals and without errors that round to zero."""
    found = [trial.measurements.get(objective.name) for trial in trials]
    places = decimals([one.value for one in found if one])
    cells = []
    for one in found:
        spread = f"{one.spread:,.{places}f}" if one else ""
        shown = any(digit in spread for digit in "123456789")
        text = f"{one.value:,.{places}f}" if one and isfinite(one.value) else "-"
        mark = f"({FLOOR})" if one and shown and ERROR_FLOOR in one.details else ""
        cells.append(Cell(text, spread if shown else "", mark))
    return cells


def _confirmed(front: StudyResult) -> dict[str, list[Cell]]:
    """Return the columns of confirmed figures by title, of objectives that were measured again."""
    found = {}
    for one in front.objectives.records:
        again = [front.confirmed.get(trial.number) for trial in front.members]
        values = [each.value(one.name) if each else None for each in again]
        known = [value for value in values if value is not None]
        if known:
            places = decimals(known)
            texts = ("-" if value is None else f"{value:,.{places}f}" for value in values)
            found[titled(one)] = [*map(Cell, texts)]
    return found


def _parameters(front: StudyResult, trial: Trial) -> list[Cell]:
    """Return the number of parameters and its share of the teacher's."""
    count = millions(trial.parameters) if trial.parameters else "-"
    return [Cell(count), Cell(front.share_of_teacher(trial) or "-")]


def _ms(value: float) -> str:
    return significant(value) if isfinite(value) else "-"


def _sizes(trial: Trial, more: Sequence[str]) -> list[str]:
    own = trial.architecture
    count = own.get("num_attention_heads")
    heads = "-" if count is None else str(count)
    if own.get("num_key_value_heads", count) != count:
        heads += f" / {own['num_key_value_heads']} KV"
    policies = ", ".join(own.get(name, "none") for name in CHOSEN)
    sizes = [own["num_hidden_layers"], own["hidden_size"], heads, own.get("intermediate_size", "-")]
    return [*map(str, sizes), *(f"{own.get(name, 0):,}" for name in more), policies]
