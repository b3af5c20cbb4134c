"""A Gaussian-process sampler that proposes members of the space only."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import GPSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import State, Trial
from protege.search.storage.attributes import trial_record
from protege.search.study.stopped import continued
from protege.spaces.space.knobs import SIZES

CONSTRAINT = "constraints"
"""Prefix of the attributes with a trial's constraints; Optuna has no public name for it."""


def limited(trials: Sequence[FrozenTrial], objectives: ObjectiveRecords) -> list[FrozenTrial]:
    """Return the trials with their constraints by today's limits.

    A trial is stored with the constraints of the limits that its study had then. The limits may
    have been changed since, and the Gaussian process needs the same constraints of all trials.
    """
    return [_limited(trial, objectives) for trial in trials]


def _limited(trial: FrozenTrial, objectives: ObjectiveRecords) -> FrozenTrial:
    own = {
        name: value for name, value in trial.system_attrs.items() if not name.startswith(CONSTRAINT)
    }
    pairs = sorted(
        zip(objectives.names, objectives.records, trial.values, strict=True), key=lambda one: one[0]
    )
    found = copy(trial)
    found.system_attrs = own | {
        f"{CONSTRAINT}:{name}": objective.violation(value)
        for name, objective, value in pairs
        if objective.limit is not None
    }
    return found


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

    Optuna maximises its acquisition function (for several objectives, the log expected hypervolume
    improvement) over the box around the space. The maximum may be tried already or no member, and
    the nearest untried member need not be the next best. This sampler evaluates untried ones only:
    all of them up to `looked_at`, otherwise a random sample and the neighbours of the front,
    followed by a local search over neighbours of the best. Of a space that is not listed, it draws
    other members for each proposal, and adds the anchors to them.

    Until as many trials are complete as the space has anchors, it proposes the member farthest from
    all tried ones. Values of stopped trials are extrapolated (see `continued`).

    Optuna's Gaussian process ignores screened trials. So members at least as large in every size as
    a screened one are left out while others remain.

    It overrides and reads private parts of Optuna. `tests/search/study/test_optuna.py` lists them,
    and `pyproject.toml` pins the release.

    Args:
        space: The space.
        seed: Seed of the sampler.
        objectives: The objectives of the study, by whose limits finished trials are judged; None
            for the limits that they were stored with.
        looked_at: Members that the acquisition function is evaluated on; of more, as many are drawn
            at random. Optuna's own search starts from as many points.
    """

    def __init__(
        self,
        space: "SearchSpace",
        seed: int,
        objectives: ObjectiveRecords | None = None,
        looked_at: int = 1024,
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=len(space.anchors))
        self._n_qmc_samples_ehvi = SAMPLES
        self._space, self._objectives, self._looked_at = space, objectives, looked_at
        self._pool = _Pool(space, space.members if space.is_listed else ())
        self._excluded: Sequence[Architecture] = ()
        self._screened: list[Architecture] = []
        self._left: Numbers = self._free()

    def propose(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
        excluded: "Sequence[Architecture]",
    ) -> "Architecture":
        """Propose the member for a trial.

        Raises:
            Infeasible: All members are excluded.
        """
        pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        self._screened = [
            self._space.by_key[one.user_attrs["key"]]
            for one in pruned
            # others were stopped at a rung
            if one.user_attrs.get("state") == State.SCREENED and self._is_beyond(one)
        ]
        self._excluded = excluded
        among: Sequence[Architecture] = ()
        if not self._space.is_listed:
            drawn = self._space.drawn(self._looked_at, self._rng.rng)
            self._pool = _Pool(self._space, [*excluded, *self._space.anchors, *drawn])
            among = self._pool.members
        self._left = self._free()
        found = self.sample_relative(study, trial, search_space) if len(self._left) else {}
        return self._space.at(found) if found else self._space.farthest(excluded, among)

    def _is_beyond(self, screened: FrozenTrial) -> bool:
        """Return whether a screened trial is beyond a limit of this run, or of the run it is of."""
        if self._objectives is None:
            return True
        known = Trial.of_record(trial_record(screened)["record"])
        return any(violation > 0 for violation in self._objectives.violations(known).values())

    def _free(self) -> Numbers:
        """Return the members that may be proposed.

        Members as large as a screened one of their family are among them only if there are no
        others.
        """
        left = np.ones(len(self._pool.members), dtype=bool)
        left[[self._pool.numbers[member] for member in self._excluded]] = False
        within = left.copy()
        for member in self._screened:
            other = self._pool.families != member.model_type
            within &= other | (self._pool.sizes < sizes_of(member)).any(axis=1)
        return np.flatnonzero(within if within.any() else left)

    def _sample_relative_impl(
        self,
        study: Study,
        completed_trials: list[FrozenTrial],
        running_trials: list[FrozenTrial],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        known = continued(completed_trials)
        if self._objectives is not None:
            known = limited(known, self._objectives)
        return super()._sample_relative_impl(study, known, running_trials, search_space)

    def _optimize_acqf(self, acqf: Any, best_params: Points | None) -> Points:
        """Override Optuna's search for the maximum of the acquisition function."""
        points = self._pool.points(acqf)
        looked_at = self._left
        if len(self._left) > self._looked_at:
            looked_at = self._rng.rng.choice(self._left, self._looked_at, replace=False)
        if len(looked_at) < len(self._left) or not self._space.is_listed:
            front = points[:0] if best_params is None else best_params
            known = [int(np.abs(points - one).sum(axis=1).argmin()) for one in front]
            looked_at = np.unique(np.concatenate([looked_at, *map(self._around, known)]))
        best, value = _best(acqf, self._pool.points(acqf), looked_at)
        around = self._around(best)
        while len(looked_at) < len(self._left):
            looked_at = np.union1d(looked_at, around)
            nearby, reached = _best(acqf, self._pool.points(acqf), around)
            if reached <= value:
                break
            best, value = nearby, reached
            around = self._around(best)
        found: Points = self._pool.points(acqf)[best]
        return found

    def _around(self, number: int) -> Numbers:
        """Return the members near one that may be proposed, after adding them to the pool."""
        known = len(self._pool.members)
        near = self._pool.add(self._space.around(self._pool.members[number]))
        if len(self._pool.members) > known:
            self._left = self._free()
        return np.intersect1d(near, self._left)


def sizes_of(member: "Architecture") -> list[int]:
    """Return all sizes, 0 where the member has none."""
    return [int(getattr(member, name)) for name in SIZES]


class _Pool:
    """Members of a space to choose from, by number."""

    def __init__(self, space: "SearchSpace", members: "Iterable[Architecture]") -> None:
        self.space = space
        self.members: list[Architecture] = []
        self.numbers: dict[Architecture, int] = {}
        self._points: Points = np.empty((0, 0))
        self._sizes: Numbers = np.empty((0, 0), dtype=np.intp)
        self.add(members)

    def add(self, members: "Iterable[Architecture]") -> Numbers:
        """Add members, unless they are there, and return their numbers."""
        found = []
        for member in members:
            if member not in self.numbers:
                self.numbers[member] = len(self.members)
                self.members.append(member)
            found.append(self.numbers[member])
        return np.array(found, dtype=np.intp)

    @property
    def sizes(self) -> Numbers:
        """The sizes of the members, ``(members, sizes)``."""
        if len(self._sizes) < len(self.members):
            self._sizes = np.array([sizes_of(member) for member in self.members])
        return self._sizes

    @property
    def families(self) -> npt.NDArray[np.str_]:
        """The ``model_type`` of the members, ``(members,)``."""
        return np.array([member.model_type for member in self.members])

    def points(self, acqf: Any) -> Points:
        """Return the members in Optuna's normalised coordinates, ``(members, knobs)``."""
        if len(self._points) < len(self.members):
            params = [self.space.params(member) for member in self.members]
            self._points = acqf.search_space.get_normalized_params(params, params)
        return self._points


def _best(acqf: Any, points: Points, numbers: Numbers) -> tuple[int, float]:
    """Return the point with the largest acquisition value, and the value; -inf for no points."""
    if not len(numbers):
        return -1, -np.inf
    parts = np.array_split(numbers, -(-len(numbers) // AT_ONCE))
    values = np.concatenate([acqf.eval_acqf_no_grad(points[part]) for part in parts])
    best = int(values.argmax())
    return int(numbers[best]), float(values[best])
