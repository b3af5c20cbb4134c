"""Whatever one trial raises costs that trial; what would strike all of them ends the study."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, Direction, Measurement, Memory, Stage, Stopwatch
from protege.objectives.measurement import Prediction
from protege.search import Front, Search, State
from protege.search.records.failure import FIRST_ALIKE
from protege.spaces import Architecture, BadInput, ProtegeError, Student, Teacher
from tests.search.toys import PLAIN, toy


@dataclass
class Depth:
    """Counts layers, and raises for some students."""

    error: Callable[[Architecture], Exception | None] = field(repr=False, compare=False)
    limit: float | None = None
    name: str = field(default="depth", init=False)
    unit: str = field(default="", init=False)
    direction: Direction = field(default="minimize", init=False)
    stage: Stage = field(default=Stage.SHAPE, init=False)

    def measure(self, candidate: Candidate) -> Measurement:
        error = self.error(candidate.architecture)
        if error is not None:
            raise error
        return Measurement(float(candidate.architecture.num_hidden_layers))


def made(folder: Path, teacher: Teacher, error: Any = lambda _: None, **given: Any) -> Search:
    """A study without training, some of whose students raise."""
    objectives = [Memory(), Depth(error, given.pop("limit", None))]
    return toy(folder, teacher=teacher, space=PLAIN, objectives=objectives, **given)


def of_three_layers(error: Exception) -> Callable[[Architecture], Exception | None]:
    """Raise for the students of three layers."""
    return lambda architecture: error if architecture.num_hidden_layers == 3 else None


def of_every_student(own: Architecture, error: Exception) -> Any:
    """Raise for all but the teacher."""
    return lambda architecture: None if architecture == own else error


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file", "vocab.txt"),
        ExceptionGroup("two", [TypeError("a"), OSError("b")]),
        BadInput("a ratio that no three layers have"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_fails_the_trials_that_raise_it_and_no_other(
    folder: Path, teacher: Teacher, error: Exception
) -> None:
    front = made(folder, teacher, of_three_layers(error)).run(trials=9)
    assert len(front.trials) == 9
    for trial in front.trials:
        is_hit = trial.architecture["num_hidden_layers"] == 3
        assert trial.state is (State.FAILED if is_hit else State.COMPLETE)
        assert trial.reason.startswith(type(error).__name__ if is_hit else "")
        assert ("raise error" in trial.traceback) == is_hit
    assert front.trials == Front.read(folder).trials


def test_a_failed_trial_is_logged_with_its_traceback_at_debug_level(
    folder: Path, teacher: Teacher, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "protege")
    made(folder, teacher, of_three_layers(TypeError("not a tensor"))).run(trials=9)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG"] * (len(levels) // 2) != []
    assert caplog.messages[0].endswith("failed: TypeError: not a tensor")
    assert "raise error" in caplog.messages[1]


def test_a_student_that_cannot_be_stored_fails_alone(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Student.save

    def saved(self: Student, path: Path) -> Any:
        if self.architecture.num_hidden_layers == 3:
            raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")
        return save(self, path)

    monkeypatch.setattr(Student, "save", saved)
    front = made(folder, teacher).run(trials=9)
    failed = [trial for trial in front.trials if trial.state is State.FAILED]
    assert {trial.architecture["num_hidden_layers"] for trial in failed} == {3}
    assert all(set(trial.measurements) == {"memory_mb", "depth"} for trial in failed)
    assert failed[0].reason.startswith("its weights could not be stored: UnicodeEncodeError: ")
    assert all((folder / f"artifacts/trial-{one.number:05d}").is_dir() for one in front.members)


def test_a_teacher_that_cannot_be_stored_ends_the_study_with_one_line(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saved(*_: Any) -> None:
        raise ValueError("temperature beside do_sample")

    monkeypatch.setattr(Student, "save", saved)
    expected = r"^the teacher itself .*: its weights could not be stored: ValueError: temperature"
    with pytest.raises(ProtegeError, match=expected) as caught:
        made(folder, teacher).run(trials=9)
    assert "in saved" in caught.value.__notes__[0]


@dataclass
class Foreseen(Depth):
    """Counts layers; the third prediction of it fails."""

    asked: list[Architecture] = field(default_factory=list, init=False, repr=False)

    def predict_beyond(
        self,
        architecture: Architecture,
        known: Sequence[tuple[Mapping[str, Any], float]],  # noqa: ARG002 - the protocol's
        teacher: Teacher,  # noqa: ARG002
    ) -> Prediction | None:
        self.asked.append(architecture)
        if len(self.asked) == 3:
            raise ArithmeticError("singular matrix")
        return None


def test_what_goes_wrong_before_a_trial_is_begun_fails_it_alone(
    folder: Path, teacher: Teacher
) -> None:
    foreseen = Foreseen(lambda _: None, limit=9.0)
    search = toy(folder, teacher=teacher, space=PLAIN, objectives=[Memory(), foreseen])
    trials = search.run(trials=9).trials
    (failed,) = [trial for trial in trials if trial.state is State.FAILED]
    assert failed.key == foreseen.asked[2].key()
    assert failed.reason == "ArithmeticError: singular matrix"
    assert len(trials) == 9


def test_a_study_whose_first_students_fail_alike_ends_and_can_be_taken_up(
    folder: Path, teacher: Teacher
) -> None:
    error = of_every_student(teacher.architecture, OSError("the tokenizer's file is gone"))
    with pytest.raises(ProtegeError, match=r"^5 trials in a row .*: OSError: the tokenizer's"):
        made(folder, teacher, error).run(trials=9)
    before = Front.read(folder).trials
    assert len(before) == 1 + FIRST_ALIKE
    front = made(folder, teacher).run(trials=9)
    assert front.trials[: len(before)] == before
    assert [t.state for t in front.trials[len(before) :]] == [State.COMPLETE] * 3


def test_an_objective_with_a_limit_that_no_small_student_can_tell_is_left_to_the_trials(
    folder: Path, teacher: Teacher
) -> None:
    def error(architecture: Architecture) -> Exception | None:
        return ValueError("too few") if architecture.num_hidden_layers == 1 else None

    trials = made(folder, teacher, error, limit=4.0).run(trials=9).trials
    failed = [t.architecture["num_hidden_layers"] for t in trials if t.state is State.FAILED]
    assert len(trials) == 9
    assert set(failed) == {1}


def test_a_display_that_raises_costs_no_time_and_no_trial() -> None:
    def lost(_: str) -> None:
        raise BrokenPipeError("the terminal is gone")

    watch = Stopwatch(announce=lost)
    with watch.phase("outer"), watch.phase("inner"):
        pass
    assert set(watch.snapshot()) == {"outer", "inner"}
    assert watch._running == []
