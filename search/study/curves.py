"""Extrapolation of stopped trials by those that trained on from the same rung."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial

from protege.search.records.goals import Goals

RUNG = "rung:"
"""Prefix of the attributes with a trial's values at a rung; the training step follows."""

STOPPED_AT = "stopped_at"
"""The attribute with the training step at which a trial was stopped."""

CONSTRAINT = "constraints"
"""Prefix of the attributes with a trial's constraints; Optuna has no public name for it."""

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


def limited(trials: Sequence[FrozenTrial], goals: Goals) -> list[FrozenTrial]:
    """Return the trials with their constraints by today's limits.

    A trial is stored with the constraints of the limits that its study had then. The limits may
    have been changed since, and the Gaussian process needs the same constraints of all trials.

    Args:
        trials: Complete trials as stored.
        goals: The goals of the study.
    """
    return [_limited(trial, goals) for trial in trials]


def _limited(trial: FrozenTrial, goals: Goals) -> FrozenTrial:
    own = {
        name: value for name, value in trial.system_attrs.items() if not name.startswith(CONSTRAINT)
    }
    pairs = sorted(zip(goals.names, goals.goals, trial.values, strict=True), key=lambda one: one[0])
    found = copy(trial)
    found.system_attrs = own | {
        f"{CONSTRAINT}:{name}": goal.violation(value)
        for name, goal, value in pairs
        if goal.limit is not None
    }
    return found


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
