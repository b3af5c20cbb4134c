"""The first candidates are looked at as they are cut, before any of them is trained."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protege.objectives import Candidate, Measurement, Memory, Retention
from protege.search import Front, Search, State
from protege.search.running.racing import Decision, Race, decide
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.storage.storage import read_study
from protege.spaces import Teacher
from tests.search.conftest import emptied
from tests.search.toys import WIDE, coordinated, distillation, toy

HARD = Race(eta=4.0, min_records=1)


def made(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    """A search whose candidates race hard."""
    given: dict[str, Any] = {"distillation": distillation(steps=9), "race": HARD}
    return toy(folder, teacher=teacher, space=WIDE, **(given | changes))


def looked_at(folder: Path) -> list[int]:
    """The trials with figures at the first rung."""
    trials = read_study(f"sqlite:///{folder}/study.db").trials
    return [trial.number for trial in trials if "rung:0" in trial.user_attrs]


def asked(folder: Path) -> int:
    """How many candidates were asked for."""
    trials = read_study(f"sqlite:///{folder}/study.db").trials
    return sum("key" in trial.user_attrs for trial in trials)


class Killed(BaseException):
    """The process is killed."""


def dies(search: Search, *, in_training: int, **settings: int) -> None:
    """Run, and end at the first step of so many-th training.

    Args:
        search: The search.
        in_training: The training.
        settings: Attributes of the coordinator.
    """
    left = [in_training]

    def learning(what: str) -> None:
        left[0] -= what == "distil 1/9"
        if what == "distil 1/9" and left[0] == 0:
            raise Killed

    with coordinated(search, learning) as coordinator:
        for name, value in settings.items():
            setattr(coordinator, name, value)
        with pytest.raises(Killed):
            list(coordinator.go_on(Stopping(12), StopRequest()))


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every student that is cut, by the key of its architecture."""
    found: list[str] = []
    student = Teacher.student

    def noted(self: Teacher, architecture: Any, *rest: Any, **named: Any) -> Any:
        found.append(architecture.key())
        return student(self, architecture, *rest, **named)

    monkeypatch.setattr(Teacher, "student", noted)
    return found


def test_ten_are_looked_at_before_any_is_trained(folder: Path, teacher: Teacher) -> None:
    dies(made(folder, teacher), in_training=1)
    assert looked_at(folder) == [*range(10)]


def test_nobody_is_looked_at_whom_nobody_asked_for(folder: Path, teacher: Teacher) -> None:
    made(folder, teacher).run(trials=4)
    assert asked(folder) == 4


@pytest.fixture(scope="module")
def whole(teacher: Teacher) -> Iterator[Front]:
    """A study of as many candidates as are looked at; tests leave it as it is."""
    with emptied() as folder:
        yield made(folder, teacher).run(trials=10)


def test_each_of_the_first_is_judged_by_all_others_that_were_looked_at(whole: Front) -> None:
    trials = whole.trials
    objectives = np.array([[t.measurements["memory_mb"].value, -t.curve[0]] for t in trials])
    for trial in trials[2:]:
        others = np.delete(objectives, trial.number, axis=0)
        beaten = decide(others, objectives[trial.number], HARD) is Decision.STOP
        assert beaten == (trial.state is State.STOPPED and trial.stopped_at == 0)
    assert any(trial.stopped_at == 0 for trial in trials)


def test_students_are_cut_once(folder: Path, teacher: Teacher, cut: list[str]) -> None:
    front = made(folder, teacher).run(trials=12)
    students = [trial.key for trial in front.trials if trial is not front.teacher]
    assert sorted(key for key in cut if key in students) == sorted(students)


def test_no_more_are_held_than_memory_is_set_aside_for(folder: Path, teacher: Teacher) -> None:
    dies(made(folder, teacher), in_training=1, most_held_bytes=1)
    assert looked_at(folder) == [0, 1]
    assert len(made(folder, teacher).run(trials=4).trials) == 4


def test_no_student_is_looked_at_ahead_without_a_race(folder: Path, teacher: Teacher) -> None:
    search = made(folder, teacher, race=None)
    dies(search, in_training=1)
    assert asked(folder) == 2


def test_a_study_that_dies_after_the_look_comes_out_as_one_that_did_not(
    whole: Front, folder: Path, teacher: Teacher
) -> None:
    dies(made(folder, teacher), in_training=2)
    parts = made(folder, teacher).run(trials=10)
    assert told(parts) == told(whole)


def told(front: Front) -> list[tuple[Any, ...]]:
    return [(t.number, t.key, t.state, t.rungs, t.measurements) for t in front.trials]


@dataclass(frozen=True)
class Breaking(Retention):
    """A retention that cannot be measured of one student."""

    key: str = ""

    def measure(self, candidate: Candidate) -> Measurement:
        if candidate.architecture.key() == self.key:
            raise RuntimeError("out of memory")
        return super().measure(candidate)


def test_a_student_that_cannot_be_looked_at_fails_alone(folder: Path, teacher: Teacher) -> None:
    naive = made(folder, teacher).students.baselines[1].key()
    search = made(folder, teacher, objectives=[Memory(), Breaking(key=naive)])
    trials = search.run(trials=4).trials
    assert len(trials) == 4
    assert [t.number for t in trials if t.state is State.FAILED] == [1]
    assert trials[1].reason == "RuntimeError: out of memory"
