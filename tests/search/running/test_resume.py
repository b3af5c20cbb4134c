"""What a study finds when it is taken up again, by the same line or by another."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from protege.objectives import Candidate, Latency, LocalCPU, Memory, Retention, Texts, Workload
from protege.objectives.latency import Plan
from protege.search import Front, Trial
from protege.search.engines.evaluating import Evaluation
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.storage import claim
from protege.search.storage.attributes import store_trial_record
from protege.search.storage.storage import read_study
from protege.search.study.sampler import suggested
from protege.search.study.study import checked_record
from protege.spaces import BadInput, Choice, Mismatch, Range, SearchSpace, Teacher
from tests.search import toys
from tests.search.toys import (
    OBJECTIVES,
    OWN,
    PLAIN,
    SPACE,
    coordinated,
    distillation,
    forwards,
    go_on,
    opened,
    toy,
    worth,
)
from tests.tiny import texts


def stored(folder: Path) -> dict[Path, int]:
    """When every file of a run was last written, its locks and the database apart."""
    found = [path for path in folder.rglob("*") if path.suffix not in {".lock", ".db"}]
    again = {"front.csv", "lock"}
    return {path: path.stat().st_mtime_ns for path in found if path.name not in again}


def test_run_again_it_does_nothing_again(folder: Path, teacher: Teacher) -> None:
    first = toy(folder, teacher=teacher).run(trials=3)
    before = stored(folder)
    with forwards() as calls:
        again = toy(folder, teacher=teacher).run(trials=3)
    assert calls == []
    assert again.trials == first.trials
    assert stored(folder) == before


def test_trials_are_counted_in_all_and_finished_ones_are_kept(
    folder: Path, teacher: Teacher
) -> None:
    first = toy(folder, teacher=teacher).run(trials=2)
    more = toy(folder, teacher=teacher).run(trials=4)
    assert more.trials[:2] == first.trials
    assert len(more.trials) == 4


def test_time_is_booked_once_however_often_a_study_is_gone_on_with(
    folder: Path, teacher: Teacher
) -> None:
    search = toy(folder, teacher=teacher)
    search.run(trials=2)
    search.run(trials=3)
    front = search.run(trials=3)
    booked = sum(trial.seconds["distil"] for trial in front.trials if "distil" in trial.seconds)
    assert front.about["seconds"]["distil"] == pytest.approx(booked)


def hold(folder: Path, held: Any, release: Any) -> None:
    """Hold the lock of a run from another process."""
    with claim.held(folder, "toy"):
        held.put(os.getpid())
        release.get()


def test_a_second_process_is_refused_while_the_first_runs(folder: Path, teacher: Teacher) -> None:
    context = multiprocessing.get_context("fork")  # spawned, it would import torch for seconds
    held, release = context.SimpleQueue(), context.SimpleQueue()
    other = context.Process(target=hold, args=(folder, held, release))
    other.start()
    try:
        message = f"'toy' is being run by process {held.get()}; wait for it, or stop it first"
        with pytest.raises(BadInput, match=message):
            toy(folder, teacher=teacher).run(trials=2)
    finally:
        release.put(None)
        other.join()
    assert len(toy(folder, teacher=teacher).run(trials=2).trials) == 2


LATENCY = Latency(LocalCPU(), Workload(prompt_tokens=4), plan=Plan())
FEW = Texts.of(texts(30))

OTHERS: dict[str, dict[str, Any]] = {
    "teacher: recorded '": {"teacher": toys.teacher(seed=1)},
    "seed: recorded 0, given 7": {"seed": 7},
    "distillation.data.fingerprint: recorded '": {"distillation": distillation(data=FEW)},
    "distillation.steps: recorded 2, given 3": {"distillation": distillation(steps=3)},
    "space.layers.low: recorded 0.25, given 0.5": {"space": SearchSpace(layers=Range(0.5, 1.0))},
    "objectives.retention.data: recorded nothing": {"objectives": [Memory(), Retention(FEW)]},
    "objectives.latency_ms: recorded nothing": {"objectives": [Memory(), Retention(), LATENCY]},
    "objectives.retention: recorded .*, given nothing": {"objectives": [Memory()]},
    "objectives.memory_mb.precision: recorded nothing, given 'int8'": {
        "objectives": [Memory(precision="int8"), Retention()]
    },
}
"""What is said of a study's part with another one in its place."""


@pytest.mark.parametrize("part", OTHERS)
def test_a_study_is_not_gone_on_with_as_another(
    run_folder: Path, teacher: Teacher, part: str
) -> None:
    before = Front.read(run_folder).trials
    with pytest.raises(Mismatch, match=f"'toy' was made otherwise: .*{part}.*; give the study an"):
        toy(run_folder, **{"teacher": teacher, **OTHERS[part]}).run(trials=10)
    assert Front.read(run_folder).trials == before


def test_an_interrupted_trial_is_done_again_under_its_number(
    folder: Path, teacher: Teacher
) -> None:
    def interrupt(what: str) -> None:
        if what == "distil":
            raise KeyboardInterrupt

    search = toy(folder, teacher=teacher)
    finished = search.run(trials=3).trials
    with coordinated(search, interrupt) as coordinator:
        with pytest.raises(KeyboardInterrupt):
            next(coordinator.go_on(Stopping(4), StopRequest()))
        asked = coordinator.study.optuna_study.trials[3].user_attrs["key"]
    trials = toy(folder, teacher=teacher).run(trials=4).trials
    assert trials[:3] == finished
    assert (trials[3].number, trials[3].key) == (3, asked)


def test_a_trial_that_was_killed_at_a_rung_goes_on_from_there(
    folder: Path, teacher: Teacher, tmp_path: Path
) -> None:
    nine = distillation(steps=9, checkpoint_every_s=0.0)
    whole = toy(tmp_path / "whole", teacher=teacher, distillation=nine).run(trials=3).trials

    def interrupt(what: str) -> None:
        if what == "distil 5/9":
            raise KeyboardInterrupt

    search = toy(folder, teacher=teacher, distillation=nine)
    search.run(trials=1)
    with coordinated(search, interrupt) as coordinator, pytest.raises(KeyboardInterrupt):
        next(coordinator.go_on(Stopping(3), StopRequest()))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["trial-00001.safetensors"]
    told: list[str] = []
    again = toy(folder, teacher=teacher, distillation=nine)
    with coordinated(again, told.append) as coordinator:
        trials = [*coordinator.go_on(Stopping(3), StopRequest())]
    # steps of the other one, and then of both
    assert [told.count(f"distil {step}/9") for step in (1, 4, 5, 9)] == [1, 1, 2, 2]
    assert [t.measurements for t in trials] == [t.measurements for t in whole[1:]]
    assert [t.rungs for t in trials] == [t.rungs for t in whole[1:]]
    assert list((folder / "checkpoints").iterdir()) == []


def test_what_was_recorded_is_not_told_to_another_study(folder: Path, teacher: Teacher) -> None:
    plain: dict[str, Any] = {"space": PLAIN, "objectives": [Memory()]}
    search = toy(folder, teacher=teacher, **plain)
    search.run(trials=1)
    with coordinated(search) as coordinator:
        study = coordinator.study
        number, architecture = study.ask()
        own = Candidate(search.prepare(), architecture)
        recorded = Evaluation(number, own, search.objectives).trial()
        live = optuna.trial.Trial(study.optuna_study, study.optuna_study.trials[1]._trial_id)
        store_trial_record(live, checked_record(recorded))
    with pytest.raises(Mismatch, match=r"made otherwise: .*distillation: recorded nothing"):
        toy(folder, teacher=teacher, objectives=[Retention()]).run(trials=3)
    assert toy(folder, teacher=teacher, **plain).run(trials=2).trials[1] == recorded


def left_behind(storage: str, *, known: bool, told: bool) -> Trial:
    """Die after asking, or while telling; the trial that was under way."""
    study = opened(storage)
    go_on(study, 6)
    if not known:
        suggested(study.optuna_study.ask(), SPACE.knobs[0])
        return worth(6, OWN)
    trial = worth(*study.ask())
    if told:
        frozen = study.optuna_study.trials[-1]
        live = optuna.trial.Trial(study.optuna_study, frozen._trial_id)
        store_trial_record(live, checked_record(trial))
    return trial


def test_a_trial_that_a_dead_process_left_is_asked_again_under_its_number(storage: str) -> None:
    left = left_behind(storage, known=True, told=False)
    study = opened(storage)
    assert len(study.trials()) == 6
    assert go_on(study, 1) == [left]
    assert study.trials()[-1] == left
    assert [trial.state for trial in study.optuna_study.trials] == [TrialState.COMPLETE] * 7


def test_a_trial_that_a_dead_process_had_recorded_is_told_as_it_was_recorded(storage: str) -> None:
    left = left_behind(storage, known=True, told=True)
    study = opened(storage)
    assert len(study.trials()) == 7
    assert study.trials()[-1] == left
    assert go_on(study, 1)[0].number == 7
    assert [trial.state for trial in study.optuna_study.trials] == [TrialState.COMPLETE] * 8


@pytest.mark.filterwarnings("error")
def test_constraints_that_a_dead_process_had_stored_are_no_cause_for_a_warning(
    storage: str,
) -> None:
    objectives = ObjectiveRecords(
        (ObjectiveRecord("size", "", "minimize", 1e9), OBJECTIVES.records[1])
    )
    study = opened(storage, objectives=objectives)
    trial = worth(*study.ask())
    live = optuna.trial.Trial(study.optuna_study, study.optuna_study.trials[0]._trial_id)
    live.set_constraint("size", objectives.records[0].violation(trial.measurements["size"].value))
    assert go_on(opened(storage, objectives=objectives), 1) == [trial]


def test_a_trial_with_half_of_its_parameters_stored_becomes_a_member_that_has_them(
    storage: str,
) -> None:
    left_behind(storage, known=False, told=False)
    before = read_study(storage).trials[-1].params
    study = opened(storage, seed=99)  # another proposal than the first process had in mind
    number, architecture = study.ask()
    stored = study.optuna_study.trials[number]
    assert stored.params == SPACE.params(architecture)
    assert stored.params.items() >= before.items()
    assert number == 6


def test_a_space_is_not_exhausted_while_its_last_member_is_under_way(storage: str) -> None:
    small = SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 1.0)).of(OWN)
    study = opened(storage, small)
    go_on(study, len(small) - 1)
    study.ask()
    resumed = opened(storage, small)
    before = resumed.exhausted
    go_on(resumed, 1)
    assert (before, resumed.exhausted) == (False, True)
    assert len(resumed.trials()) == len(small)
