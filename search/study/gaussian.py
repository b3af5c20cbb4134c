"""A Gaussian process that is asked of the members of a space, and of nothing between them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from protege.search.study.curves import continued

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import Architecture, SearchSpace

Points = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

LOOKED_AT = 1024
"""Of more members than that so many are drawn; Optuna's own search begins with as many points."""

SAMPLES = 32
"""Of the posterior, which the expected improvement of several goals is the mean over; a quarter of
what Optuna takes: where other trials are under way, the front is taken apart for each of them."""

AT_ONCE = 64
"""Members that the acquisition function is asked of together, which bounds the memory it takes."""


class MemberGP(GPSampler):
    """Optuna's Gaussian process, which proposes the best of the members that are left.

    Optuna's own search for the maximum of its acquisition function (the logarithm of the expected
    hypervolume improvement, where there are several goals) looks anywhere in the box around the
    space. What it finds may have been tried or be no member, and the nearest that is left is not
    the next best. Here members alone are looked at: all of them if no more than `LOOKED_AT` are
    left, otherwise as many drawn at random and those around the front, and from the best of them on
    to its neighbours while one is better.

    Until as many trials are complete as the space has anchors, it proposes what is farthest from
    all that were asked for.

    A stopped trial is taken for what it would probably have come to (see `continued`).

    Members as large in every size as one that was screened are left out while there are others: a
    Gaussian process of Optuna's hears of complete trials alone, so it would ask for them again and
    again.
    """

    def __init__(self, space: "SearchSpace", seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=len(space.anchors))
        self._n_qmc_samples_ehvi = SAMPLES
        self._space = space
        self._numbers = {member: number for number, member in enumerate(space)}
        self._sizes = np.array([[*member.sizes().values()] for member in space])
        self._ranks = _ranks(space)
        self._left: Numbers = np.arange(len(space))
        self._points: Points | None = None

    def propose(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
        excluded: "Sequence[Architecture]",
    ) -> "Architecture":
        """The member to be tried in a trial.

        Args:
            study: The study.
            trial: The trial.
            search_space: The knobs of the space, in their order.
            excluded: The members that it cannot be.

        Raises:
            Infeasible: It can be none.
        """
        left = np.ones(len(self._space), dtype=bool)
        left[[self._numbers[member] for member in excluded]] = False
        within = left & ~self._too_large(study)
        self._left = np.flatnonzero(within if within.any() else left)
        found = self.sample_relative(study, trial, search_space) if left.any() else {}
        return self._space.at(found) if found else self._space.farthest(excluded)

    def _too_large(self, study: Study) -> npt.NDArray[np.bool_]:
        """Of every member whether it is as large in every size as one that was screened."""
        found = np.zeros(len(self._space), dtype=bool)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)):
            member = self._space.by_key[trial.user_attrs["key"]]
            found |= (self._sizes >= self._sizes[self._numbers[member]]).all(axis=1)
        return found

    def _sample_relative_impl(
        self,
        study: Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        known = continued(completed_trials)
        return super()._sample_relative_impl(study, known, running_trials, search_space)

    def _optimize_acqf(self, acqf: Any, best_params: Points | None) -> Points:
        """What Optuna leaves to those who know better where to look."""
        points = self._normalized(acqf)
        looked_at = self._left
        if len(self._left) > LOOKED_AT:
            drawn = self._rng.rng.choice(self._left, LOOKED_AT, replace=False)
            front = points[:0] if best_params is None else best_params
            known = [int(np.abs(points - one).sum(axis=1).argmin()) for one in front]
            looked_at = np.unique(np.concatenate([drawn, *map(self._around, known)]))
        best, value = _best(acqf, points, looked_at)
        while len(looked_at) < len(self._left):
            looked_at = np.union1d(looked_at, around := self._around(best))
            nearby, reached = _best(acqf, points, around)
            if reached <= value:
                break
            best, value = nearby, reached
        found: Points = points[best]
        return found

    def _around(self, number: int) -> Numbers:
        """The members left that are at most one step away in every size."""
        near = (np.abs(self._ranks[self._left] - self._ranks[number]) <= 1).all(axis=1)
        found: Numbers = self._left[near]
        return found

    def _normalized(self, acqf: Any) -> Points:
        """Every member as Optuna's Gaussian process sees it, ``(members, knobs)``."""
        if self._points is None:
            params = [self._space.params(member) for member in self._space]
            self._points = acqf.search_space.get_normalized_params(params, params)
        return self._points


def _ranks(space: "SearchSpace") -> Numbers:
    """Every member's place among the values of each size, ``(members, sizes)``."""
    sizes = [knob for knob in space.knobs if knob.is_size]
    places = [{value: place for place, value in enumerate(knob.values)} for knob in sizes]
    rows = [
        [place[space.params(member)[knob.name]] for knob, place in zip(sizes, places, strict=True)]
        for member in space
    ]
    return np.array(rows, dtype=np.intp).reshape(len(space), len(sizes))


def _best(acqf: Any, points: Points, numbers: Numbers) -> tuple[int, float]:
    """The number of the point of the largest acquisition, and that; of none it is the least."""
    if not len(numbers):
        return -1, -np.inf
    parts = np.array_split(numbers, -(-len(numbers) // AT_ONCE))
    values = np.concatenate([acqf.eval_acqf_no_grad(points[part]) for part in parts])
    best = int(values.argmax())
    return int(numbers[best]), float(values[best])
