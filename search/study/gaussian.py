"""A Gaussian-process sampler that proposes members of the space only."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from protege.search.records.goals import Goals
from protege.search.records.trial import State, Trial
from protege.search.study.curves import continued

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import Architecture, SearchSpace

Points = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.intp]

SAMPLES = 32
"""Posterior samples of the expected hypervolume improvement, a quarter of Optuna's default: with
parallel trials the front is decomposed once per sample."""

AT_ONCE = 64
"""Members per call of the acquisition function, which bounds its memory."""


class MemberGP(GPSampler):
    """Optuna's Gaussian process, restricted to untried members of the space.

    Optuna maximises its acquisition function (the log expected hypervolume improvement, for several
    goals) over the box around the space. The maximum may be tried already or no member, and the
    nearest untried member need not be the next best. This sampler evaluates untried members only:
    all of them up to `looked_at`, otherwise a random sample and the neighbours of the front,
    followed by a local search over neighbours of the best.

    Until as many trials are complete as the space has anchors, it proposes the member farthest from
    all tried ones. Values of stopped trials are extrapolated (see `continued`).

    Optuna's Gaussian process ignores screened trials. So members at least as large in every size as
    a screened one are left out while others remain.

    Limits may change when a study is resumed, and stored violations do not. With `goals` trials are
    judged by the limits of these.

    It overrides and reads private parts of Optuna. `tests/search/study/test_optuna.py` lists them,
    and `pyproject.toml` pins the release.

    Args:
        space: The space.
        seed: Seed of the sampler.
        looked_at: Members that the acquisition function is evaluated on; of more, as many are drawn
            at random. Optuna's own search starts from as many points.
        goals: The goals of the study; by default trials are judged by their stored violations.
    """

    def __init__(
        self,
        space: "SearchSpace",
        seed: int,
        looked_at: int = 1024,
        goals: Goals | None = None,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=len(space.anchors))
        self._n_qmc_samples_ehvi = SAMPLES
        self._space, self._looked_at, self._goals = space, looked_at, goals
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
        """Propose the member for a trial.

        Args:
            study: The study.
            trial: The trial.
            search_space: Distributions of the knobs, in order.
            excluded: Members that cannot be proposed.

        Raises:
            Infeasible: All members are excluded.
        """
        left = np.ones(len(self._space), dtype=bool)
        left[[self._numbers[member] for member in excluded]] = False
        within = left & ~self._too_large(study)
        self._left = np.flatnonzero(within if within.any() else left)
        found = self.sample_relative(study, trial, search_space) if left.any() else {}
        return self._space.at(found) if found else self._space.farthest(excluded)

    def _too_large(self, study: Study) -> npt.NDArray[np.bool_]:
        """Return which members are at least as large in every size as a screened one."""
        found = np.zeros(len(self._space), dtype=bool)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)):
            if trial.user_attrs.get("state") != State.SCREENED:
                continue  # stopped at a rung before all objectives were measured
            if self._goals is not None and not is_beyond(trial, self._goals):
                continue  # beyond the limit of an earlier run
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
        if self._goals is not None:
            completed_trials = [limited(trial, self._goals) for trial in completed_trials]
        known = continued(completed_trials)
        return super()._sample_relative_impl(study, known, running_trials, search_space)

    def _optimize_acqf(self, acqf: Any, best_params: Points | None) -> Points:
        """Override Optuna's search for the maximum of the acquisition function."""
        points = self._normalized(acqf)
        looked_at = self._left
        if len(self._left) > self._looked_at:
            drawn = self._rng.rng.choice(self._left, self._looked_at, replace=False)
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
        """Return the untried members at most one step away in every size."""
        near = (np.abs(self._ranks[self._left] - self._ranks[number]) <= 1).all(axis=1)
        found: Numbers = self._left[near]
        return found

    def _normalized(self, acqf: Any) -> Points:
        """Return the members in Optuna's normalised coordinates, ``(members, knobs)``."""
        if self._points is None:
            params = [self._space.params(member) for member in self._space]
            self._points = acqf.search_space.get_normalized_params(params, params)
        return self._points


def limited(trial: FrozenTrial, goals: Goals) -> FrozenTrial:
    """Return a complete trial with its violations of the limits of these goals."""
    pairs = sorted(zip(goals.names, goals.goals, trial.values, strict=True), key=lambda one: one[0])
    found = {name: goal.violation(value) for name, goal, value in pairs if goal.limit is not None}
    if trial.constraints == found:
        return trial
    return create_trial(
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        constraints=found or None,
    )


def is_beyond(trial: FrozenTrial, goals: Goals) -> bool:
    """Return whether a screened trial was measured or predicted beyond a limit of these goals."""
    known = Trial.of_record(trial.user_attrs["protege"])
    return any(violation > 0 for violation in goals.violations(known).values())


def _ranks(space: "SearchSpace") -> Numbers:
    """Return each member's index among the values of each size, ``(members, sizes)``."""
    sizes = [knob for knob in space.knobs if knob.is_size]
    places = [{value: place for place, value in enumerate(knob.values)} for knob in sizes]
    rows = [
        [place[space.params(member)[knob.name]] for knob, place in zip(sizes, places, strict=True)]
        for member in space
    ]
    return np.array(rows, dtype=np.intp).reshape(len(space), len(sizes))


def _best(acqf: Any, points: Points, numbers: Numbers) -> tuple[int, float]:
    """Return the point with the largest acquisition value, and the value; -inf for no points."""
    if not len(numbers):
        return -1, -np.inf
    parts = np.array_split(numbers, -(-len(numbers) // AT_ONCE))
    values = np.concatenate([acqf.eval_acqf_no_grad(points[part]) for part in parts])
    best = int(values.argmax())
    return int(numbers[best]), float(values[best])
