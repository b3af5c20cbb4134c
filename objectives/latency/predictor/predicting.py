"""Predict from measured candidates whether another one is too slow to be built."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from protege.objectives.latency.predictor.model import LatencyModel, LatencySample, recorded
from protege.objectives.latency.predictor.terms import Call
from protege.objectives.measurement import Prediction
from protege.spaces import Architecture

ENOUGH = 15
"""Distinct sets of sizes that must be measured before the latency model is used."""

LEAST_MARGIN = 0.05
"""Minimum relative error margin of a prediction."""

CREDIBLE = 0.9
"""Quantile of the model's leave-one-out errors that the margin covers."""

Known = Iterable[tuple[Mapping[str, Any], float]]
"""Sizes and policies of measured candidates, each with its latency."""


def model_of(known: Known, call: Call) -> LatencyModel | None:
    """Fit a latency model, or return None for fewer than `ENOUGH` sets of sizes."""
    samples = [LatencySample(recorded(fields), value) for fields, value in known]
    if len({one.architecture for one in samples}) < ENOUGH:
        return None
    return LatencyModel.fit(samples, call)


def predicted_beyond(
    architecture: Architecture, known: Known, call: Call, limit: float
) -> Prediction | None:
    """Return the prediction of an architecture if even its lower bound is over the limit.

    Sizes that were measured before, and sizes predicted to be faster than all measured ones, are
    never judged by a prediction.
    """
    model = model_of(known, call)
    if model is None or model.knows(architecture):
        return None
    value, _ = model.predict(architecture)
    if value * (1 - LEAST_MARGIN) <= limit:
        return None  # within the limit even by the smallest margin
    if value < min(one.value for one in model.samples):
        return None  # extrapolation: faster than every sample
    wrong = float(np.quantile(np.abs(model.leave_one_out()), CREDIBLE))
    found = Prediction(value, max(wrong, LEAST_MARGIN), len(model.samples))
    return found if found.least > limit else None
