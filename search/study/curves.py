"""Extrapolation of stopped trials by those that trained on from the same rung."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial

RUNG = "rung:"
"""Prefix of the attributes with a trial's values at a rung; the training step follows."""

STOPPED_AT = "stopped_at"
"""The attribute with the training step at which a trial was stopped."""

ENOUGH = 4
"""Finished trials at the same rung that a linear fit needs."""

Values = npt.NDArray[np.float64]


def continued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with the final values of stopped ones extrapolated.

    A stopped trial is stored with its values at the rung, after little training. A sampler that
    models finished students would take them for final ones and underestimate the region. So each
    goal is extrapolated by a linear fit of final values on values at the rung, over the trials that
    passed the same rung. With fewer than `ENOUGH` of them the values stay.

    Args:
        trials: Complete trials as stored.
    """
    ended = [trial for trial in trials if STOPPED_AT not in trial.user_attrs]
    return [_continued(trial, ended) for trial in trials]


def _continued(trial: FrozenTrial, ended: Sequence[FrozenTrial]) -> FrozenTrial:
    name = f"{RUNG}{trial.user_attrs.get(STOPPED_AT)}"
    others = [one for one in ended if name in one.user_attrs]
    if STOPPED_AT not in trial.user_attrs or len(others) < ENOUGH:
        return trial
    there = np.array([one.user_attrs[name] for one in others])
    last = np.array([one.values for one in others])
    found = copy(trial)  # the stored trial keeps its measured values
    found.values = _ahead(np.array(trial.values), there, last)
    return found


def _ahead(own: Values, there: Values, last: Values) -> list[float]:
    """Extrapolate values at a rung, ``(goals,)``, by those of others, ``(n, goals)``."""
    found = []
    for value, x, y in zip(own, there.T, last.T, strict=True):
        variance = x.var()
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / variance) if variance else 1.0
        found.append(float(y.mean() + slope * (value - x.mean())))
    return found
