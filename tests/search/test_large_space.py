"""A space of millions of members is searched through the study's own sampler."""

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.records.objectives import ObjectiveRecords
from protege.search.study.importing import import_trial, importable_trials
from protege.search.study.study import StoredStudy
from protege.spaces import Architecture, Choice, Ends, Greedy, Range, SearchSpace, Surgeon, Wanda
from tests.search.toys import OBJECTIVES, go_on, opened

BERT = Architecture("bert", 12, 384, 12, 12, 32, 1536, 30522)
LARGE = SearchSpace(
    layers=Range(0.05, 1.0),
    hidden=Range(0.05, 1.0, 1 / 12),
    intermediate=Range(0.05, 1.0, 1 / 96),
    vocab=Range(0.1, 1.0, 1 / 500),
    layer_policy=Choice(Greedy(), Ends()),
    width_policy=Choice(Surgeon(), Wanda()),
).of(BERT)
TRIALS = 24


def measured(number: int, one: Architecture) -> Trial:
    """A trial of `OBJECTIVES`: quality saturates with every size, and depends on the policies."""
    own = one.sizes()
    shares = {name: own[name] / size for name, size in BERT.sizes().items()}
    depth, width = shares["num_hidden_layers"], shares["hidden_size"]
    inner, vocab = shares["intermediate_size"], shares["vocab_size"]
    size = 0.4 * depth * width * (width + 2 * inner) / 3 + 0.6 * width * vocab
    quality = depth**0.4 * width**0.5 * (0.4 + 0.6 * inner**0.5) * (0.2 + 0.8 * min(1, 2 * vocab))
    quality *= 0.9 if one.layer_policy == Ends() else 1.0
    quality *= 0.93 if one.width_policy == Wanda() else 1.0
    values = {"size": Measurement(size), "quality": Measurement(quality)}
    return Trial(number, one.key(), one.fields(), State.COMPLETE, values)


def searched(
    seed: int, sampler: BaseSampler | None, trials: int
) -> tuple[StoredStudy, list[Trial]]:
    optuna_study = optuna.create_study(directions=["minimize", "maximize"])
    study = StoredStudy.open(optuna_study, LARGE, OBJECTIVES, seed, sampler)
    told = []
    for _ in range(trials):
        trial = measured(*study.ask())
        study.tell(trial)
        told.append(trial)
    return study, told


def worth(trials: list[Trial], objectives: ObjectiveRecords = OBJECTIVES) -> float:
    return objectives.hypervolume(trials, measured(0, BERT))


def test_the_space_is_too_large_to_be_listed() -> None:
    assert len(LARGE) > 20_000_000
    assert not LARGE.is_listed


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_large_space_is_searched_better_than_at_random(seed: int) -> None:
    study, told = searched(seed, None, TRIALS)
    _, drawn = searched(seed, RandomSampler(seed=seed), TRIALS)
    anchors = [anchor.key() for anchor in LARGE.anchors]
    assert [trial.key for trial in told][: len(anchors)] == anchors
    assert len({trial.key for trial in told}) == TRIALS
    for stored in study.optuna_study.trials:
        assert stored.params == LARGE.params(LARGE.by_key[stored.user_attrs["key"]])
    found, chance = worth(told), worth(drawn)
    start = worth(told[: len(anchors)])
    assert found - start > 1.5 * (chance - start)


def test_one_seed_gives_one_sequence_of_proposals() -> None:
    first, again, other = (
        [trial.key for trial in searched(seed, None, 9)[1]] for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_trials_of_a_large_space_are_imported_from_another_study() -> None:
    _, told = searched(0, None, 7)
    optuna_study = optuna.create_study(directions=["minimize", "maximize"])
    for _, own in importable_trials(optuna_study, LARGE, told):
        import_trial(optuna_study, LARGE, OBJECTIVES, own, "other")
    study = StoredStudy.open(optuna_study, LARGE, OBJECTIVES, seed=1)
    assert study.trials() == told
    _, member = study.ask()
    assert member.key() not in {trial.key for trial in told}


SMALL = SearchSpace(layers=Range(0.1, 1.0), intermediate=Choice(0.25, 0.5, 1.0), listed=0).of(BERT)


@pytest.mark.parametrize(
    "sampler",
    [None, pytest.param(RandomSampler(seed=0), marks=pytest.mark.slow)],
    ids=["default", "random"],
)
def test_a_space_that_is_not_listed_is_tried_to_its_last_member(
    storage: str, sampler: BaseSampler | None
) -> None:
    study = opened(storage, SMALL, sampler=sampler)
    told = go_on(study, 1000)
    assert {trial.key for trial in told} == {member.key() for member in SMALL}
    assert study.exhausted
