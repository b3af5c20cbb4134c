"""The sampler: proposals of a base sampler, moved to members that were not tried yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from threadpoolctl import threadpool_limits

from protege.search.records.objectives import ObjectiveRecords
from protege.search.storage.storage import asked_for, quiet_optuna
from protege.search.study.gaussian import MemberGP
from protege.search.study.stopped import SampledStudy, completed
from protege.spaces.space.knobs import Knob, Value

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import SearchSpace

GP_TRIALS = 250
"""Trials up to which the Gaussian process proposes; beyond it is too slow, and TPE does."""

ENUMERATED = 24
"""Spaces of at most so many members are tried completely, farthest member first: a model would
cost more than it saves."""


class UniqueSampler(BaseSampler):
    """Moves the proposals of a base sampler to the nearest member that was not tried yet."""

    def __init__(
        self,
        space: "SearchSpace",
        seed: int,
        base: BaseSampler | None = None,
        objectives: ObjectiveRecords | None = None,
    ) -> None:
        self._space = space
        self._distributions = distributions(space)
        self._enumerates = base is None and len(space) <= ENUMERATED
        self._early = base or MemberGP(space, seed, objectives)
        with quiet_optuna():
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
        excluded = [self._space.by_key[key] for key in asked_for(study)]
        if trial.params:  # a killed process had stored some of them
            given = {**self._space.params(self._space.anchors[-1]), **trial.params}
            found = self._space.nearest(given, excluded, holding=trial.params)
            return dict(self._space.params(found))
        if self._enumerates:
            return dict(self._space.params(self._space.farthest(excluded)))
        base, seen = self._base(study), SampledStudy(study)
        with one_thread():
            if isinstance(base, MemberGP):
                found = base.propose(seen, trial, search_space, excluded)
                return dict(self._space.params(found))
            params = base.sample_relative(seen, trial, search_space)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = base.sample_independent(seen, trial, name, distribution)
        return dict(self._space.params(self._space.nearest(params, excluded)))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        seen = SampledStudy(study)
        return self._base(study).sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._base(study).before_trial(SampledStudy(study), trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        if state is TrialState.PRUNED and (seen := completed(trial)) is not trial:
            state, values = TrialState.COMPLETE, seen.values
        self._base(study).after_trial(SampledStudy(study), trial, state, values)

    def reseed_rng(self) -> None:
        self._early.reseed_rng()
        self._late.reseed_rng()

    def _base(self, study: Study) -> BaseSampler:
        return self._early if len(study.get_trials(deepcopy=False)) < GP_TRIALS else self._late


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and NumPy to one thread in the block.

    A Gaussian process on few trials gains nothing from threads, which contend with training jobs.
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
    """Return Optuna's distribution of every knob."""
    return {knob.name: _distribution(knob) for knob in space.knobs}


def suggested(trial: Trial, knob: Knob) -> Value:
    """Suggest a value of a knob; a size may lie between those of two members."""
    if not knob.is_size:
        return str(trial.suggest_categorical(knob.name, [str(value) for value in knob.values]))
    low, high = int(knob.values[0]), int(knob.values[-1])
    return trial.suggest_int(knob.name, low, high, step=knob.step)


def _distribution(knob: Knob) -> BaseDistribution:
    if not knob.is_size:
        return CategoricalDistribution([str(value) for value in knob.values])
    return IntDistribution(int(knob.values[0]), int(knob.values[-1]), step=knob.step)
