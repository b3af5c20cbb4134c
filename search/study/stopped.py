"""Trials that the race stopped: pruned in Optuna, and still learned from by the samplers."""

from collections.abc import Container, Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

RUNG = "rung:"
"""Prefix of the attributes with a trial's values at a rung; the training step follows."""

STOPPED_AT = "stopped_at"
"""The attribute with the training step at which a trial was stopped."""

STOPPED_WITH = "stopped_with"
"""The attribute with the values of a stopped trial; Optuna takes no values of a pruned one."""

ENOUGH = 4
"""Finished trials at the same rung that a linear fit needs."""

Values = npt.NDArray[np.float64]


class SampledStudy(Study):
    """A study as its sampler sees it: stopped trials are complete, with their last values.

    They are pruned in Optuna, so that its dashboard and its importance plot do not take them for
    finished ones. A sampler that ignored them would propose similar ones again.

    Optuna's samplers read trials through `_get_trials`, see `tests/search/study/test_optuna.py`.
    """

    def __init__(self, study: Study) -> None:
        vars(self).update(vars(study))  # without asking the storage for what is known

    def _get_trials(
        self,
        deepcopy: bool = True,  # noqa: FBT001, FBT002 - Optuna's signature
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: FBT001, FBT002
    ) -> list[FrozenTrial]:
        seen = map(completed, super()._get_trials(deepcopy, None, use_cache))
        return [trial for trial in seen if states is None or trial.state in states]


def completed(trial: FrozenTrial) -> FrozenTrial:
    """Return a stopped trial as a complete one with its last values, and any other as it is."""
    if trial.state is not TrialState.PRUNED or STOPPED_WITH not in trial.user_attrs:
        return trial
    found = copy(trial)
    found.state, found.values = TrialState.COMPLETE, list(trial.user_attrs[STOPPED_WITH])
    return found


def stopped_with(values: Sequence[float]) -> dict[str, Any]:
    """Return the user attributes of a stopped trial, from which `completed` restores it."""
    return {STOPPED_WITH: list(values)}


def continued(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials with the final values of stopped ones extrapolated.

    A stopped trial is stored with its values at the rung, after little training. A sampler that
    models finished students would take them for final ones and underestimate the region. So each
    value is extrapolated by a linear fit of final values on values at the rung, over the trials
    that passed the same rung. With fewer than `ENOUGH` of them the values stay.
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
    """Extrapolate values at a rung, ``(objectives,)``, by those of others, ``(n, objectives)``."""
    found = []
    for value, x, y in zip(own, there.T, last.T, strict=True):
        variance = x.var()
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / variance) if variance else 1.0
        found.append(float(y.mean() + slope * (value - x.mean())))
    return found
