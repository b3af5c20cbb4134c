"""Screening: a candidate that is sure to be too slow is neither built nor measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from protege.objectives.latency.predictor.model import LatencyModel, Sample, recorded
from protege.objectives.latency.predictor.terms import Call
from protege.search.records.trial import State, Trial

if TYPE_CHECKING:  # the report predicts without torch
    from protege.objectives import Candidate, Latency

ENOUGH = 15
"""Sets of sizes that have to be measured before a model of latency is believed."""

LEAST_MARGIN = 0.05
"""What a prediction may be wrong by at least, as a share of it."""

CREDIBLE = 0.9
"""Share of its own errors that the margin of a model covers."""


@dataclass(frozen=True)
class Prediction:
    """What a model expects of a candidate.

    Attributes:
        value: The latency, in the objective's unit.
        margin: What it may be wrong by, as a share of it.
        samples: Sets of sizes that the model was learned from.
    """

    value: float
    margin: float
    samples: int

    @property
    def least(self) -> float:
        """The least that the candidate may reach."""
        return self.value * (1 - self.margin)


def screened(
    number: int, candidate: "Candidate", latencies: "Iterable[Latency]", done: Sequence[Trial]
) -> Trial | None:
    """The trial of a candidate that is predicted to be over a limit; none if it may be within.

    It depends on what was measured before and on nothing else, so that a study that is taken up
    again screens as it would have. Never screened are the teacher, sizes that were measured before,
    and a candidate that is expected to be faster than all that were.

    Args:
        number: The number of the trial.
        candidate: The candidate.
        latencies: Objectives, each with a model of its own.
        done: The trials of the study so far.
    """
    if candidate.is_teacher:
        return None
    for latency in latencies:
        with candidate.stopwatch.phase("screen"):
            before = candidate.stopwatch.snapshot()
            found = _hopeless(candidate, latency, done)
        if found is not None:
            return Trial(
                number=number,
                key=candidate.architecture.key(),
                architecture=candidate.architecture.fields(),
                state=State.SCREENED,
                measurements={},
                seconds=candidate.stopwatch.since(before),
                reason=_reason(latency, found),
                predictions={latency.name: found.value},
            )
    return None


def measured(trials: Iterable[Trial], name: str) -> list[Sample]:
    """The architecture and the value of every trial that an objective has measured."""
    return [
        Sample(recorded(trial.architecture), trial.measurements[name].value)
        for trial in trials
        if name in trial.measurements
    ]


def model_of(samples: Sequence[Sample], call: Call) -> LatencyModel | None:
    """The model of these samples; none where they are too few to be believed."""
    if len({one.architecture for one in samples}) < ENOUGH:
        return None
    return LatencyModel.fit(samples, call)


def _hopeless(
    candidate: "Candidate", latency: "Latency", done: Sequence[Trial]
) -> Prediction | None:
    """The prediction of a candidate if it is beyond the limit, whatever it may be wrong by."""
    if latency.limit is None:
        return None
    call = Call(latency.workload, candidate.teacher.task)
    model = model_of(measured(done, latency.name), call)
    if model is None or model.knows(candidate.architecture):
        return None
    value, _ = model.predict(candidate.architecture)
    if value * (1 - LEAST_MARGIN) <= latency.limit:
        return None  # whatever the model's own errors are
    if value < min(one.value for one in model.samples):
        return None  # faster than all that was measured, where a model knows least
    wrong = float(np.quantile(np.abs(model.leave_one_out()), CREDIBLE))
    found = Prediction(value, max(wrong, LEAST_MARGIN), len(model.samples))
    return found if found.least > latency.limit else None


def _reason(latency: "Latency", found: Prediction) -> str:
    return (
        f"{latency.name} is predicted as {found.value:.4g} ± {found.margin:.1%}, learned from "
        f"{found.samples} measured students: beyond the limit {latency.limit:g}"
    )
