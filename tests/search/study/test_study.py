import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
import torch
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from threadpoolctl import threadpool_info, threadpool_limits

from protege.search import State, Trial
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.storage.locating import database_path
from protege.search.storage.storage import read_study
from protege.search.study.sampler import ENUMERATED, one_thread
from protege.search.study.study import open_study, trials_of
from protege.spaces import BadInput, Choice, Ends, Range, SearchSpace, Uniform
from tests.search.toys import OBJECTIVES, OWN, SPACE, go_on, keys, opened, worth
from tests.spaces.space.apart import apart

MIXED = SearchSpace(
    layers=Range(0.25, 1.0),
    intermediate=Range(0.2, 1.0),
    multiple_of=4,
    layer_policy=Choice(Ends(), Uniform()),
).of(OWN)

SAMPLERS: dict[str, Callable[[], BaseSampler | None]] = {
    "default": lambda: None,
    "random": lambda: RandomSampler(seed=1),
    "tpe": lambda: TPESampler(seed=1),
    "nsga-ii": lambda: NSGAIISampler(population_size=4, seed=1),
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in {"random", "nsga-ii"} else [])
        for name in SAMPLERS
    ]
)
def sampler(request: pytest.FixtureRequest) -> BaseSampler | None:
    return SAMPLERS[request.param]()


def test_a_proposal_keeps_to_one_thread_of_torch_and_of_numpy() -> None:
    def threads() -> list[int]:
        return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]

    with threadpool_limits(2):
        before = threads()
        assert max(before) == 2
        with one_thread():
            assert set(threads()) == {1}
        assert threads() == before


@pytest.mark.parametrize("space", [SPACE, MIXED], ids=["sizes", "policies"])
def test_every_ask_is_a_new_member_stored_under_its_own_parameters(
    storage: str, space: SearchSpace, sampler: BaseSampler | None
) -> None:
    study = opened(storage, space, sampler=sampler)
    told = go_on(study, 11)
    assert len(set(keys(told))) == 11
    members = {member.key(): member for member in space}
    for stored in study.optuna_study.trials:
        assert stored.params == space.params(members[stored.user_attrs["key"]])


def test_the_anchors_come_first(storage: str, sampler: BaseSampler | None) -> None:
    told = go_on(opened(storage, sampler=sampler), 7)
    assert keys(told)[:6] == [anchor.key() for anchor in SPACE.anchors]
    assert told[0].key == OWN.key()


def test_the_anchors_come_first_even_if_the_process_died_between_noting_them(storage: str) -> None:
    # what is there when the process dies after the study and its first anchor were stored
    study = optuna.create_study(
        study_name="toy", storage=storage, directions=["minimize", "maximize"]
    )
    study.enqueue_trial(dict(SPACE.params(SPACE.anchors[0])), {"anchor": True})
    told = go_on(opened(storage), 7)
    assert keys(told)[:6] == [anchor.key() for anchor in SPACE.anchors]


def test_one_seed_gives_one_sequence_of_proposals(folder: Path) -> None:
    # the seventh is the first that the Gaussian process proposes
    first, again, other = (
        keys(go_on(opened(f"sqlite:///{folder}/{run}.db", seed=seed), trials))
        for run, (seed, trials) in enumerate([(3, 10), (3, 10), (4, 9)])
    )
    assert first == again
    assert first[:6] == other[:6]  # the anchors
    assert first[6:9] != other[6:]


def test_a_study_that_is_gone_on_with_proposes_what_is_new(
    storage: str, sampler: BaseSampler | None
) -> None:
    first = go_on(opened(storage, sampler=sampler), 5)
    second = go_on(opened(storage, sampler=sampler), 5)
    assert not {*keys(first)} & {*keys(second)}
    assert [trial.number for trial in second] == [5, 6, 7, 8, 9]


def test_proposals_after_a_resumption_are_no_neighbours_of_the_first_ones(folder: Path) -> None:
    # a sampler that starts from its seed again would propose the first ones again, and be moved
    # to members beside them: the two sequences would be the same but for small steps
    together = go_on(opened(f"sqlite:///{folder}/one.db", SPACE), 8)[2:5]
    other = f"sqlite:///{folder}/two.db"
    go_on(opened(other), 5)
    resumed = go_on(opened(other), 3)
    members = {member.key(): member for member in SPACE}
    steps = [
        apart(SPACE, members[one.key], members[again.key])
        for one, again in zip(together, resumed, strict=True)
    ]
    assert max(steps) > 0.5


def test_a_space_is_tried_to_its_last_member_and_no_further(
    storage: str, sampler: BaseSampler | None
) -> None:
    small = SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 1.0)).of(OWN)
    study = opened(storage, small, sampler=sampler)
    told = go_on(study, 1000)
    assert {*keys(told)} == {member.key() for member in small}
    assert study.exhausted
    assert opened(storage, small).exhausted


def test_a_small_space_is_tried_from_afar_without_a_model(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was asked")

    monkeypatch.setattr(GPSampler, "sample_relative", asked)
    monkeypatch.setattr(GPSampler, "sample_independent", asked)
    small = SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 0.6, 1.0)).of(OWN)
    told = go_on(opened(storage, small), 1000)
    order = [small.by_key[key] for key in keys(told)]
    assert len(order) == len(small) <= ENUMERATED
    distances = [
        min(apart(small, one, other) for other in order[:at])
        for at, one in enumerate(order)
        if at >= len(small.anchors)
    ]
    assert distances == sorted(distances, reverse=True)


def test_the_search_finds_the_front_that_enumeration_finds(storage: str) -> None:
    everyone = [worth(number, member) for number, member in enumerate(SPACE)]
    true = {trial.key for trial in OBJECTIVES.front(everyone)}
    told = go_on(opened(storage, sampler=RandomSampler(seed=0)), 1000)
    assert 1 < len(true) < len(SPACE)
    assert {trial.key for trial in OBJECTIVES.front(told)} == true


def test_what_was_told_comes_back_as_it_was(storage: str) -> None:
    told = go_on(opened(storage), 4)
    assert opened(storage).trials() == told
    assert trials_of(read_study(storage)) == told


@pytest.mark.parametrize(
    ("state", "stored"),
    [
        (State.COMPLETE, TrialState.COMPLETE),
        (State.SCREENED, TrialState.PRUNED),
        (State.FAILED, TrialState.FAIL),
    ],
)
def test_optuna_is_told_what_became_of_a_trial(
    storage: str, state: State, stored: TrialState
) -> None:
    study = opened(storage)
    trial = worth(*study.ask())
    halted = Trial(
        trial.number, trial.key, trial.architecture, state, trial.measurements, {}, "why"
    )
    study.tell(halted)
    frozen = study.optuna_study.trials[0]
    complete = state is State.COMPLETE
    assert frozen.state is stored
    assert frozen.values == (OBJECTIVES.values(trial) if complete else None)
    assert frozen.user_attrs["state"] == str(state)
    assert frozen.user_attrs["reason"] == "why"


def test_limits_are_constraints_that_optuna_s_own_front_respects(storage: str) -> None:
    limit = worth(0, OWN).measurements["size"].value / 2
    objectives = ObjectiveRecords(
        (ObjectiveRecord("size", "", "minimize", limit), OBJECTIVES.records[1])
    )
    study = opened(storage, objectives=objectives)
    told = go_on(study, 8)
    for trial, stored in zip(told, study.optuna_study.trials, strict=True):
        violation = trial.measurements["size"].value / limit - 1
        assert stored.constraints == pytest.approx({"size": violation})
    best = sorted(stored.number for stored in study.optuna_study.best_trials)
    assert best == sorted(trial.number for trial in objectives.front(told))
    assert 0 not in best  # the teacher, twice as large as allowed


def test_a_study_of_other_objectives_is_left_as_it_was(storage: str) -> None:
    opened(storage)
    other = ObjectiveRecords((*OBJECTIVES.records, ObjectiveRecord("third", "", "minimize")))
    opened(storage, objectives=other)
    assert read_study(storage).metric_names == ["size", "quality"]


def test_reading_needs_one_study_or_the_name_of_one(storage: str) -> None:
    with pytest.raises(BadInput, match=r"no study there; expected a study.db or the run folder"):
        read_study(storage)
    for name in ("one", "two"):
        open_study(storage, name, OBJECTIVES)
    with pytest.raises(BadInput, match="expected one study, found 2: one, two"):
        read_study(storage)
    with pytest.raises(BadInput, match="no study 'three'; it has: one, two"):
        read_study(storage, "three")
    assert read_study(storage, "two").study_name == "two"


def test_only_a_sqlite_storage_has_a_file() -> None:
    assert database_path("sqlite:///runs/toy/study.db") == Path("runs/toy/study.db")
    assert database_path("postgresql://host/name") is None
    with pytest.raises(BadInput, match=r"storage 'study.db': expected a URL such as sqlite:///"):
        database_path("study.db")


@pytest.mark.parametrize("storage", ["sqlite://", "sqlite:///:memory:"])
def test_a_storage_that_keeps_nothing_is_refused(storage: str) -> None:
    with pytest.raises(BadInput, match="in memory nothing is kept; expected a file or a server"):
        database_path(storage)


def asked_of(app: Any, path: str) -> Any:
    """What the application answers to a GET request, read from its JSON."""
    environ: dict[str, Any] = {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    seen: list[str] = []
    body: Iterator[bytes] = app(environ, lambda status, *_: seen.append(status))
    answer = b"".join(body)
    assert seen == ["200 OK"], answer
    return json.loads(answer)


def test_optuna_dashboard_shows_the_study_its_objectives_and_its_trials(storage: str) -> None:
    told = go_on(opened(storage), 7)
    app = wsgi(storage)
    studies = asked_of(app, "/api/studies")["study_summaries"]
    assert [study["study_name"] for study in studies] == ["toy"]
    detail = asked_of(app, f"/api/studies/{studies[0]['study_id']}")
    assert detail["objective_names"] == ["size", "quality"]
    assert detail["directions"] == ["minimize", "maximize"]
    assert [trial["values"] for trial in detail["trials"]] == [OBJECTIVES.values(t) for t in told]
    assert {param["name"] for param in detail["trials"][0]["params"]} == {
        knob.name for knob in SPACE.knobs
    }
