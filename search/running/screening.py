"""Screening: drop candidates that are predicted to be too slow before building them."""

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
"""Distinct sets of sizes that must be measured before the latency model is used."""

LEAST_MARGIN = 0.05
"""Minimum relative error margin of a prediction."""

CREDIBLE = 0.9
"""Quantile of the model's leave-one-out errors that the margin covers."""


@dataclass(frozen=True)
class Prediction:
    """The predicted latency of a candidate.

    Attributes:
        value: The latency, in the objective's unit.
        margin: The relative error margin.
        samples: Number of sets of sizes that the model was fitted to.
    """

    value: float
    margin: float
    samples: int

    @property
    def least(self) -> float:
        """Lower bound of the latency."""
        return self.value * (1 - self.margin)


def screened(
    number: int, candidate: "Candidate", latencies: "Iterable[Latency]", done: Sequence[Trial]
) -> Trial | None:
    """Return the trial of a candidate that is predicted to exceed a limit, or None.

    The result depends only on earlier measurements, so a resumed study screens the same
    candidates. The teacher, sizes that were measured before, and candidates predicted to be faster
    than all measured ones are never screened.

    Args:
        number: The number of the trial.
        candidate: The candidate.
        latencies: The latency objectives; each has a model of its own.
        done: Finished trials.
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
    """Return architecture and value of every trial that has a measurement of an objective."""
    return [
        Sample(recorded(trial.architecture), trial.measurements[name].value)
        for trial in trials
        if name in trial.measurements
    ]


def model_of(samples: Sequence[Sample], call: Call) -> LatencyModel | None:
    """Fit a latency model, or return None for fewer than `ENOUGH` sets of sizes."""
    if len({one.architecture for one in samples}) < ENOUGH:
        return None
    return LatencyModel.fit(samples, call)


def _hopeless(
    candidate: "Candidate", latency: "Latency", done: Sequence[Trial]
) -> Prediction | None:
    """Return the prediction of a candidate if even its lower bound is over the limit."""
    if latency.limit is None:
        return None
    call = Call(latency.workload, candidate.teacher.task)
    model = model_of(measured(done, latency.name), call)
    if model is None or model.knows(candidate.architecture):
        return None
    value, _ = model.predict(candidate.architecture)
    if value * (1 - LEAST_MARGIN) <= latency.limit:
        return None  # within the limit even by the smallest margin
    if value < min(one.value for one in model.samples):
        return None  # extrapolation: faster than every sample
    wrong = float(np.quantile(np.abs(model.leave_one_out()), CREDIBLE))
    found = Prediction(value, max(wrong, LEAST_MARGIN), len(model.samples))
    return found if found.least > latency.limit else None


def _reason(latency: "Latency", found: Prediction) -> str:
    return (
        f"{latency.name} is predicted as {found.value:.4g} ± {found.margin:.1%}, learned from "
        f"{found.samples} measured students: beyond the limit {latency.limit:g}"
    )
