"""Screening: drop candidates that are predicted to exceed a limit before building them."""

from collections.abc import Iterable, Sequence

from protege.objectives import Candidate, Objective
from protege.objectives.measurement import Prediction
from protege.objectives.objective import Predictable
from protege.search.records.trial import State, Trial, measured


def screened(
    number: int, candidate: Candidate, objectives: Iterable[Objective], done: Sequence[Trial]
) -> Trial | None:
    """Return the trial of a candidate that is predicted to exceed a limit, or None.

    The result depends only on earlier measurements, so a resumed study screens the same
    candidates. The teacher is never screened.

    Args:
        number: The number of the trial.
        candidate: The candidate.
        objectives: The objectives of the study; those that are `Predictable` are asked.
        done: Finished trials.
    """
    if candidate.is_teacher:
        return None
    for objective in objectives:
        if not isinstance(objective, Predictable) or objective.limit is None:
            continue
        with candidate.stopwatch.phase("screen"):
            before = candidate.stopwatch.snapshot()
            known = measured(done, objective.name)
            found = objective.predict_beyond(candidate.architecture, known, candidate.teacher)
        if found is not None:
            return Trial(
                number=number,
                key=candidate.architecture.key(),
                architecture=candidate.architecture.fields(),
                state=State.SCREENED,
                measurements={},
                seconds=candidate.stopwatch.since(before),
                reason=_reason(objective, found),
                predictions={objective.name: found.value},
            )
    return None


def _reason(objective: Objective, found: Prediction) -> str:
    return (
        f"{objective.name} is predicted as {found.value:.4g} ± {found.margin:.1%}, learned from "
        f"{found.samples} measured students: beyond the limit {objective.limit:g}"
    )
