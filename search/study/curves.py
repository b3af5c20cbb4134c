"""What stopped trials would have come to, judged by those that went on from the same rung."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial

RUNG = "rung:"
"""What the attribute that holds a trial's values at a rung begins with; its steps follow."""

STOPPED_AT = "stopped_at"
"""The attribute that holds the steps after which a trial was stopped."""

ENOUGH = 4
"""Finished trials that were at the same rung before a line through them is believed."""

Values = npt.NDArray[np.float64]


def continued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, those that were stopped with the values they would probably have ended with.

    Optuna is told a stopped trial's values at its rung, which is what was measured. To a model of
    finished students such a value is one of another kind: what little training leaves behind is
    not what the architecture is worth, and everything near it looks worse than it is. So each is
    moved along a line through the trials that were at the same rung and went on to the end: their
    last values over those at the rung, goal by goal. Where fewer than `ENOUGH` did, it stays.

    Args:
        trials: Complete ones, as they are stored.
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
    found = copy(trial)  # the stored one stays as it was measured
    found.values = _ahead(np.array(trial.values), there, last)
    return found


def _ahead(own: Values, there: Values, last: Values) -> list[float]:
    """What the values at a rung lead to, ``(goals,)``, as they did for others, ``(n, goals)``."""
    found = []
    for value, x, y in zip(own, there.T, last.T, strict=True):
        variance = x.var()
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / variance) if variance else 1.0
        found.append(float(y.mean() + slope * (value - x.mean())))
    return found
