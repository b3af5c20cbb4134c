"""The trials that are dominated by value alone: within noise they equal a student on the front."""

from collections.abc import Sequence

from protege.search.analysis.ties import Noise
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.records.trial import Trial

FAR = 3.0
"""Standard errors, of both together, beyond which two values cannot be tied."""


def tied_with(
    objectives: ObjectiveRecords, students: Sequence[Trial], others: Sequence[Trial]
) -> dict[int, list[int]]:
    """Return which trials equal students within noise in every objective.

    Args:
        objectives: The objectives of the study.
        students: Students on the front.
        others: Feasible trials off the front.

    Returns:
        By the number of such a trial, the numbers of those students.
    """
    own = objectives.records
    # the bootstrap of all pairs would take long
    near = [one for one in others if any(_near(one, student, own) for student in students)]
    if not near:
        return {}
    compared = [*near, *students]
    found = [[trial.measurements[one.name] for trial in compared] for one in own]
    tied = Noise.of(found, [one.sign for one in own]).tied[: len(near), len(near) :]
    numbers = [trial.number for trial in students]
    ties = {
        trial.number: [number for number, same in zip(numbers, row, strict=True) if same]
        for trial, row in zip(near, tied, strict=True)
    }
    return {number: same for number, same in ties.items() if same}


def _near(one: Trial, other: Trial, objectives: Sequence[ObjectiveRecord]) -> bool:
    """Return whether two trials may be tied."""
    pairs = [(one.measurements[each.name], other.measurements[each.name]) for each in objectives]
    return all(
        abs(a.value - b.value) <= FAR * (a.spread + b.spread) + 1e-9 * abs(b.value)
        for a, b in pairs
    )
