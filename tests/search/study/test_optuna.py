"""Private parts of Optuna that `MemberGP` and `SampledStudy` override or read, as pinned."""

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna._gp.acqf import BaseAcquisitionFunc
from optuna._gp.search_space import SearchSpace
from optuna.samplers import GPSampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.study import Study

from protege.search.study.gaussian import SAMPLES, MemberGP
from protege.search.study.sampler import distributions
from tests.search.toys import SPACE

KNOWN_GOOD = "5.0.0"
"""The last release of Optuna that `MemberGP` is known to work with."""

CHANGED = (
    f"Optuna {optuna.__version__} changed {{}}, which search/study/gaussian.py uses; the last "
    f"release known to be good is {KNOWN_GOOD}. Adapt the sampler, then this test and the pin in "
    "pyproject.toml"
)

SIGNATURES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "GPSampler._sample_relative_impl": (
        GPSampler._sample_relative_impl,
        ["self", "study", "completed_trials", "running_trials", "search_space"],
    ),
    "GPSampler._optimize_acqf": (GPSampler._optimize_acqf, ["self", "acqf", "best_params"]),
    "BaseAcquisitionFunc.eval_acqf_no_grad": (BaseAcquisitionFunc.eval_acqf_no_grad, ["self", "x"]),
    "Study._get_trials": (Study._get_trials, ["self", "deepcopy", "states", "use_cache"]),
    "SearchSpace.get_normalized_params": (
        SearchSpace.get_normalized_params,
        ["self", "trials", "trial_params"],
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_private_methods_have_the_known_signature(name: str) -> None:
    method, parameters = SIGNATURES[name]
    assert [*inspect.signature(method).parameters] == parameters, CHANGED.format(name)


class Noting(GPSampler):
    """Optuna's sampler, which notes what it passes to the methods that `MemberGP` overrides."""

    def __init__(self) -> None:
        super().__init__(seed=0, n_startup_trials=4)
        self.trials: list[optuna.trial.FrozenTrial] = []
        self.acquisition: Any = None
        self.best: Any = None

    def _sample_relative_impl(
        self, study: Any, completed_trials: Any, running_trials: Any, search_space: Any
    ) -> dict[str, Any]:
        self.trials = completed_trials
        return super()._sample_relative_impl(study, completed_trials, running_trials, search_space)

    def _optimize_acqf(self, acqf: Any, best_params: Any) -> Any:
        self.acquisition, self.best = acqf, best_params
        return super()._optimize_acqf(acqf, best_params)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_overridden_methods_are_called_with_what_is_used() -> None:
    sampler = Noting()
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for _ in range(5):
        trial = study.ask(distributions(SPACE))
        values = [float(trial.params[knob.name]) for knob in SPACE.knobs if knob.is_size]
        study.tell(trial, [sum(values), values[0]])
    assert len(sampler.trials) == 4, CHANGED.format("the call of `_sample_relative_impl`")
    params = [SPACE.params(member) for member in SPACE]
    points = sampler.acquisition.search_space.get_normalized_params(params, params)
    assert points.shape == (len(SPACE), len(params[0])), CHANGED.format("get_normalized_params")
    assert 0 <= points.min() < points.max() <= 1, CHANGED.format("get_normalized_params")
    found = sampler.acquisition.eval_acqf_no_grad(points)
    assert found.shape == (len(SPACE),), CHANGED.format("eval_acqf_no_grad")
    assert sampler.best.shape[1:] == points.shape[1:], CHANGED.format("best_params")


def test_the_number_of_samples_is_where_it_is_set() -> None:
    name = "_n_qmc_samples_ehvi"
    assert name in vars(GPSampler(seed=0)), CHANGED.format(name)
    assert f"self.{name}" in inspect.getsource(GPSampler._sample_relative_impl), CHANGED.format(
        name
    )
    assert vars(MemberGP(SPACE, 0))[name] == SAMPLES


def test_the_random_state_is_where_it_is_drawn_from() -> None:
    rng = GPSampler(seed=0)._rng
    assert isinstance(rng, LazyRandomState), CHANGED.format("GPSampler._rng")
    assert isinstance(rng.rng, np.random.RandomState), CHANGED.format("LazyRandomState.rng")


def test_the_release_that_is_known_to_be_good_is_pinned() -> None:
    with (Path(__file__).parents[3] / "pyproject.toml").open("rb") as file:
        needed = tomllib.load(file)["project"]["dependencies"]
    assert f"optuna~={KNOWN_GOOD}" in needed
