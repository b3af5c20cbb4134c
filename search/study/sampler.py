"""Proposals: another sampler's, moved to members that were not asked for yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from threadpoolctl import threadpool_limits

from protege.search.storage.storage import asked_for, calm
from protege.search.study.gaussian import MemberGP
from protege.spaces.space.knobs import Knob, Value

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import Architecture, SearchSpace

GP_TRIALS = 250
"""Up to so many trials a Gaussian process proposes best; beyond, it costs too much."""

ENUMERATED = 24
"""A space of so many members is tried as a whole, what is farthest from all that was tried first:
a model of it would cost more than it saves."""


class UniqueSampler(BaseSampler):
    """Another sampler, its proposals moved to the nearest member not asked for yet."""

    def __init__(self, space: "SearchSpace", seed: int, base: BaseSampler | None = None) -> None:
        self._space = space
        self._distributions = distributions(space)
        self._enumerates = base is None and len(space) <= ENUMERATED
        self._early = base or MemberGP(space, seed)
        with calm():
            self._late = base or TPESampler(seed=seed, multivariate=True)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - the space is the same for every study and trial
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if trial.system_attrs.get("fixed_params"):
            return {}  # enqueued: nothing to propose
        excluded = self._excluded(study, trial)
        if self._enumerates:
            return dict(self._space.params(self._space.farthest(excluded)))
        base = self._base(study)
        with one_thread():
            if isinstance(base, MemberGP):
                found = base.propose(study, trial, search_space, excluded)
                return dict(self._space.params(found))
            params = base.sample_relative(study, trial, search_space)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = base.sample_independent(study, trial, name, distribution)
        return dict(self._space.params(self._space.nearest(params, excluding=excluded)))

    def _excluded(self, study: Study, trial: FrozenTrial) -> "list[Architecture]":
        """The members that a trial cannot become."""
        found = [self._space.by_key[key] for key in asked_for(study)]
        if trial.params:  # a process that died had stored some of them already
            stored = trial.params.items()
            found += [m for m in self._space if not stored <= self._space.params(m).items()]
        return found

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._base(study).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._base(study).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._base(study).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._early.reseed_rng()
        self._late.reseed_rng()

    def _base(self, study: Study) -> BaseSampler:
        return self._early if len(study.get_trials(deepcopy=False)) < GP_TRIALS else self._late


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and NumPy on one thread: a Gaussian process of few trials is too small to share.

    Beside jobs that train, its threads would mostly wait for one another.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def distributions(space: "SearchSpace") -> dict[str, BaseDistribution]:
    """What Optuna knows of every knob."""
    return {knob.name: _distribution(knob) for knob in space.knobs}


def suggested(trial: Trial, knob: Knob) -> Value:
    """Return the trial's value of a knob; a size may be between those of two members."""
    if not knob.is_size:
        return str(trial.suggest_categorical(knob.name, [str(value) for value in knob.values]))
    low, high = int(knob.values[0]), int(knob.values[-1])
    return trial.suggest_int(knob.name, low, high, step=knob.step)


def _distribution(knob: Knob) -> BaseDistribution:
    if not knob.is_size:
        return CategoricalDistribution([str(value) for value in knob.values])
    return IntDistribution(int(knob.values[0]), int(knob.values[-1]), step=knob.step)
