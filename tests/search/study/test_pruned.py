"""Stopped trials are pruned in Optuna, and the samplers learn from them as they would otherwise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.study.stopped import STOPPED_AT, SampledStudy
from protege.search.study.study import StoredStudy
from tests.search.toys import OBJECTIVES, opened, worth

SAMPLERS: dict[str, Callable[[], BaseSampler | None]] = {
    "default": lambda: None,
    "tpe": lambda: TPESampler(seed=1, n_startup_trials=5),
    "nsga-ii": lambda: NSGAIISampler(population_size=4, seed=1),
}


def stopped_trial(trial: Trial) -> Trial:
    """The trial as the race stops it at the first rung, with less quality."""
    quality = 0.7 * trial.measurements["quality"].value
    known = {**trial.measurements, "quality": Measurement(quality)}
    rungs = {0: {"quality": quality}}
    return replace(trial, state=State.STOPPED, measurements=known, rungs=rungs, reason="beaten")


def tell_as_complete(study: StoredStudy, trial: Trial) -> None:
    """Tell a stopped trial as one that is complete in Optuna, with the attributes it is read by."""
    number = study.optuna_study.trials[trial.number]._trial_id
    live = optuna.trial.Trial(study.optuna_study, number)
    live.set_user_attr(STOPPED_AT, 0)
    study.optuna_study.tell(live, OBJECTIVES.values(trial))
    del study._open[trial.number]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_learns_from_stopped_trials_as_from_complete_ones(
    folder: Path, name: str
) -> None:
    asked: list[list[str]] = []
    states: list[list[TrialState]] = []
    for tell in (StoredStudy.tell, tell_as_complete):
        study = opened(f"sqlite:///{folder}/{tell.__name__}.db", sampler=SAMPLERS[name]())
        keys = []
        for number in range(16):
            trial = worth(*study.ask())
            keys.append(trial.key)
            stopped = stopped_trial(trial)
            study.store_rung(number, 0, OBJECTIVES.values(stopped))
            if number > 3 and number % 3 == 0:
                tell(study, stopped)
            else:
                study.tell(trial)
        asked.append(keys)
        states.append([trial.state for trial in study.optuna_study.trials])
    assert asked[0] == asked[1]
    assert states[0].count(TrialState.PRUNED) == 4
    assert states[1].count(TrialState.PRUNED) == 0


def test_a_sampler_sees_stopped_trials_as_complete_and_nobody_else_does(storage: str) -> None:
    study = opened(storage)
    stopped, screened = (worth(*study.ask()) for _ in range(2))
    stopped = stopped_trial(stopped)
    study.tell(stopped)
    study.tell(replace(screened, state=State.SCREENED, measurements={}))
    seen = SampledStudy(study.optuna_study).get_trials(deepcopy=False)
    states = [TrialState.COMPLETE, TrialState.PRUNED]
    assert [trial.state for trial in seen[:2]] == states
    assert seen[0].values == OBJECTIVES.values(stopped)
    own = study.optuna_study.trials[0]
    assert (own.state, own.values) == (TrialState.PRUNED, None)
    assert study.optuna_study.best_trials == []
    assert study.trials()[0] == stopped


def test_nothing_is_learned_from_one_that_was_stopped_before_all_is_measured(storage: str) -> None:
    study = opened(storage)
    trial = stopped_trial(worth(*study.ask()))
    known = {"quality": trial.measurements["quality"]}
    study.tell(replace(trial, measurements=known))
    (seen,) = SampledStudy(study.optuna_study).get_trials(states=(TrialState.PRUNED,))
    assert seen.values is None
