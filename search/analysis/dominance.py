"""What the baselines of a study say of its front."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from protege.search.analysis.ties import Noise
from protege.search.records.baseline import BaselineRecord
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.plain import printable
from protege.search.records.trial import Trial
from protege.search.records.wording import figure, listed

ROLE = "baseline"
"""The role of a baseline in tables."""


def outdone(
    objectives: ObjectiveRecords, students: Sequence[Trial], baselines: Sequence[BaselineRecord]
) -> dict[str, list[int]]:
    """Return the students that each baseline dominates within noise.

    A baseline dominates a student if it is better in some objective by more than noise and worse in
    none by more than noise. One beyond a limit, or without a measurement of some objective,
    dominates none.

    Returns:
        Trial numbers by the baseline's name.
    """
    whole = [one for one in baselines if _is_within_limits(objectives, one)]
    found: dict[str, list[int]] = {one.name: [] for one in baselines}
    if not whole or not students:
        return found
    every: list[BaselineRecord | Trial] = [*whole, *students]
    values = [
        [one.measurements[objective.name] for one in every] for objective in objectives.records
    ]
    noise = Noise.of(values, [objective.sign for objective in objectives.records])
    for row, baseline in zip(noise.dominates, whole, strict=False):
        pairs = zip(students, row[len(whole) :], strict=True)
        found[baseline.name] = [student.number for student, dominated in pairs if dominated]
    return found


def notes(
    objectives: ObjectiveRecords,
    total: int,
    baselines: Sequence[BaselineRecord],
    outdone: Mapping[str, Sequence[int]],
) -> list[str]:
    """Return for each baseline how many students on the front it dominates, and what it lacks.

    Args:
        objectives: The objectives of the study.
        total: Number of students on the front.
        baselines: The baselines.
        outdone: The numbers of the students that each of them dominates, by its name.
    """
    found = []
    for one in baselines:
        numbers, name = outdone[one.name], printable(one.name)
        which = f" ({listed(numbers)})" if numbers else ""
        said = f"{name} dominates {len(numbers) or 'none'} of {total} students of the front{which}."
        beyond = _beyond(objectives, one)
        said += f" It is beyond the limit on {' and '.join(beyond)}." if beyond else ""
        for objective, reason in one.reasons.items():
            said += f" Its {printable(objective)} could not be measured: {printable(reason)}."
        found.append(said)
    return found


def line(
    objectives: ObjectiveRecords, one: BaselineRecord, columns: Sequence[str]
) -> dict[str, Any]:
    """Return a baseline's row of the table for a terminal."""
    found = {objective: one.measurements.get(objective) for objective in objectives.names}
    figures = {
        printable(objective): figure(each) if each else "-" for objective, each in found.items()
    }
    named = {"student": printable(f"{one.name} ({ROLE})"), **figures}
    return {column: named.get(column, "") for column in columns}


def with_baselines(
    table: pd.DataFrame,
    baselines: Sequence[BaselineRecord],
    outdone: Mapping[str, Sequence[int]],
) -> pd.DataFrame:
    """Add a row for each baseline, and columns for what dominates what, if there are baselines.

    Args:
        table: One row per student.
        baselines: The baselines.
        outdone: The numbers of the students that each of them dominates, by its name.
    """
    if not baselines:
        return table
    rows: list[dict[Any, Any]] = [
        {**row, "dominates": "", "dominated_by_baselines": _above(outdone, row["trial"])}
        for row in table.to_dict("records")
    ]
    columns = [*table.columns, "dominates", "dominated_by_baselines"]
    rows += [_row(one, outdone[one.name]) for one in baselines]
    return pd.DataFrame(rows, columns=columns).astype({"trial": "Int64"})


def _row(one: BaselineRecord, dominated: Sequence[int]) -> dict[str, Any]:
    figures = {name: found.value for name, found in one.measurements.items()}
    figures |= {f"{name}_spread": found.spread for name, found in one.measurements.items()}
    sizes = {
        name: size for name, size in one.architecture.items() if isinstance(size, int) and size
    }
    return {
        **sizes,
        **figures,
        "trial": None,
        "student": one.name,
        "role": ROLE,
        "dominates": listed(dominated),
        "on_front": False,
        "state": "not trained",
        "reason": "; ".join(f"{name}: {why}" for name, why in one.reasons.items()),
    }


def _above(outdone: Mapping[str, Sequence[int]], number: int) -> str:
    return ", ".join(name for name, numbers in outdone.items() if number in numbers)


def _is_within_limits(objectives: ObjectiveRecords, one: BaselineRecord) -> bool:
    return set(objectives.names) <= one.measurements.keys() and not _beyond(objectives, one)


def _beyond(objectives: ObjectiveRecords, one: BaselineRecord) -> list[str]:
    """Return the names of the objectives whose limit a baseline exceeds."""
    found = one.measurements
    limited = (objective for objective in objectives.records if objective.name in found)
    return [
        objective.name
        for objective in limited
        if objective.violation(found[objective.name].value) > 0
    ]
