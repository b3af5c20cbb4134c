"""Studies judged by the user's own functions, which fail, hang or run in other processes."""

import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch

from protege.objectives import Memory, Retention, Score
from protege.search import Front, LocalEngine, State
from protege.search.session.identity import document
from protege.spaces import BadInput, Mismatch, Student, Teacher
from tests.search.toys import toy

SENTENCES = ("w1 w2 w3", "w4 w5", "w6", "w7 w8")


def vectors(student: Student) -> torch.Tensor:
    with torch.no_grad():
        read = student.tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
        found: torch.Tensor = student.module(**read)
    return found


def closeness(student: Student) -> torch.Tensor:
    return vectors(student) @ vectors(student).mean(0)


@dataclass(frozen=True)
class Norm:
    """The largest entry of the vectors, times a factor."""

    factor: float = 1.0

    def __call__(self, student: Student) -> float:
        return self.factor * float(vectors(student).abs().max())


def is_small(student: Student) -> bool:
    return student.architecture.num_hidden_layers < 4


def fails_on_small(student: Student) -> float:
    if is_small(student) and student.architecture.intermediate_size < 40:
        return 1 / 0
    return 1.0


def hangs_on_small(student: Student) -> float:
    if is_small(student) and student.architecture.intermediate_size < 40:
        time.sleep(3600)
    return 1.0


def process(_: Student) -> float:
    return float(os.getpid())


def test_a_trial_distils_once_for_all_that_judge_it(folder: Path, teacher: Teacher) -> None:
    objectives = [
        Memory(),
        Retention(),
        Score("close", closeness, at_rungs=True, limit=-1.0),
        Score("norm", Norm(), "minimize"),
    ]
    search = toy(folder, teacher=teacher, objectives=objectives, race=None)
    front = search.run(trials=4)
    assert front.objectives.names == ["memory_mb", "retention", "close", "norm"]
    for trial in front.trials:
        assert trial.state is State.COMPLETE
        assert len(trial.measurements["close"].examples) == len(SENTENCES)
        if trial is front.teacher:
            continue
        # as many steps as the distillation declares, and each phase once
        assert trial.training is not None
        assert trial.training.steps == len(trial.training.losses) == 2
        assert {"distil", "evaluate"} <= trial.seconds.keys()
        assert all(set(values) == {"retention", "close"} for values in trial.rungs.values())
    booked = sum(trial.seconds.get("distil", 0.0) for trial in front.trials)
    assert front.about["seconds"]["distil"] == pytest.approx(booked)
    figures = search.confirm(front.export(front.members[-1]))
    assert set(figures) == {"memory_mb", "retention", "close", "norm", "unseen_retention"}
    assert figures["norm"] == pytest.approx(front.members[-1].measurements["norm"].value, abs=1e-6)


def test_the_first_score_at_rungs_selects_the_published_weights(
    folder: Path, teacher: Teacher
) -> None:
    objectives = [Memory(), Score("norm", Norm(), "minimize", at_rungs=True), Retention()]
    for trial in toy(folder, teacher=teacher, objectives=objectives, race=None).run(3).trials:
        values = [one["norm"] for one in trial.rungs.values()]
        assert trial.measurements["norm"].value == min(values)


def test_an_exception_fails_its_trial_alone(folder: Path, teacher: Teacher) -> None:
    objectives = [Memory(), Score("own", fails_on_small)]
    trials = toy(folder, teacher=teacher, objectives=objectives).run(trials=6).trials
    failed = [trial for trial in trials if trial.state is State.FAILED]
    assert len(trials) == 6
    assert 0 < len(failed) < 5
    for trial in failed:
        assert trial.reason.startswith(
            "ProtegeError: score 'own': ZeroDivisionError: division by zero (test_scores.py:"
        )
        assert trial.reason.endswith(": return 1 / 0)")
        assert "ZeroDivisionError" in trial.traceback


def test_what_fails_on_the_teacher_ends_the_study(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, objectives=[Memory(), Score("own", bool_of_nothing)])
    with pytest.raises(
        Exception, match=r"the teacher itself cannot be measured: .*'own': its value"
    ):
        search.run(trials=2)


def bool_of_nothing(_: Student) -> float:
    return float("nan")


def test_a_function_that_hangs_fails_its_trial_in_this_process(
    folder: Path, teacher: Teacher
) -> None:
    score = Score("own", sleeps_on_small, timeout_s=0.5)
    trials = toy(folder, teacher=teacher, objectives=[Memory(), score]).run(trials=6).trials
    failed = [trial for trial in trials if trial.state is State.FAILED]
    assert len(trials) == 6
    assert 0 < len(failed) < 5
    for trial in failed:
        assert "score 'own': not done after timeout_s=0.5, at test_scores.py:" in trial.reason
        assert trial.seconds["evaluate"] < 60


def sleeps_on_small(student: Student) -> float:
    while is_small(student) and student.architecture.intermediate_size < 40:
        time.sleep(0.01)
    return 1.0


@pytest.mark.slow
def test_a_worker_in_which_a_function_hangs_is_replaced(folder: Path, teacher: Teacher) -> None:
    objectives = [
        Memory(),
        Score("own", hangs_on_small, timeout_s=1.0),
        Score("process", process),
    ]
    search = toy(folder, teacher=teacher, objectives=objectives)
    trials = search.run(trials=6, engine=LocalEngine(1, threads=1)).trials
    failed = [trial.number for trial in trials if trial.state is State.FAILED]
    assert len(trials) == 6
    assert 0 < len(failed) < 5
    for number in failed:
        assert "not done after timeout_s=1, at test_scores.py:" in trials[number].reason
    by = [t.measurements["process"].value for t in trials if t.state is State.COMPLETE]
    assert len(set(by)) > 1  # the first process is gone, and the call with it
    assert os.getpid() not in by


@pytest.mark.slow
def test_lambdas_and_closures_reach_workers(folder: Path, teacher: Teacher) -> None:
    factor = 2.0
    objectives = [Memory(), Score("own", lambda student: factor * len(student.tokenizer))]
    search = toy(folder, teacher=teacher, objectives=objectives)
    trials = search.run(trials=2, engine=LocalEngine(1, threads=1)).trials
    assert {trial.measurements["own"].value for trial in trials} == {2.0 * 96}


def test_what_a_worker_cannot_get_is_told_in_one_line(folder: Path, teacher: Teacher) -> None:
    lock = Lock()
    score = Score("own", lambda student: float(lock.locked()) + len(student.tokenizer))
    search = toy(folder, teacher=teacher, objectives=[Memory(), score])
    with pytest.raises(BadInput, match=r"cannot be sent to another process \(.*lock.*\); define"):
        search.run(trials=2, engine=LocalEngine(1))


NAMED = f"{__name__}."


def test_the_identity_names_functions_and_the_fields_of_dataclasses() -> None:
    assert document(Score("own", closeness)) == {
        "kind": "Score",
        "name": "own",
        "function": f"{NAMED}closeness",
    }
    assert document(Score("own", Norm()))["function"] == {"kind": "Norm"}
    assert document(Score("own", Norm(2.0)))["function"] == {"kind": "Norm", "factor": 2.0}
    assert document(Score("own", partial(max, 1, key=len)))["function"] == {
        "kind": "partial",
        "function": "builtins.max",
        "args": [1],
        "keywords": {"key": "builtins.len"},
    }
    assert document(Score("own", Norm(2.0).__call__))["function"] == {
        "kind": f"{NAMED}Norm.__call__",
        "of": {"kind": "Norm", "factor": 2.0},
    }
    # what changes no value of the search may change between runs
    same = Score("own", closeness, limit=1.0, unseen=closeness, timeout_s=5)
    assert document(same) == document(Score("own", closeness))


def test_a_study_resumes_with_the_same_function_only(folder: Path, teacher: Teacher) -> None:
    def search(function: Any) -> Any:
        objectives = [Memory(), Score("own", function)]
        return toy(folder, teacher=teacher, objectives=objectives)

    search(Norm()).run(trials=2)
    assert len(search(replace(Norm(2.0), factor=1.0)).run(trials=3).trials) == 3
    for other in (Norm(2.0), closeness, process):
        with pytest.raises(Mismatch, match=r"own"):
            search(other).run(trials=4)
    assert len(Front.read(folder).trials) == 3
