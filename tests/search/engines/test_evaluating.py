import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from protege.objectives import (
    Candidate,
    Direction,
    Measurement,
    Memory,
    Objective,
    Parameters,
    Retention,
    Stage,
)
from protege.objectives.candidate import Prepared
from protege.search import State, Trial
from protege.search.engines.evaluating import Evaluation
from protege.spaces import BadInput, Cache, DiskFull, Infeasible, Teacher, Unavailable
from tests.search.toys import distillation


@dataclass
class Noted:
    """An objective that notes that it was measured, and answers as it is told."""

    name: str
    stage: Stage
    notes: list[str]
    answer: Callable[[], float] = lambda: 1.0
    limit: float | None = None
    direction: Direction = "minimize"

    unit: ClassVar[str] = ""

    def measure(self, candidate: Candidate) -> Measurement:
        with candidate.stopwatch.phase(self.name):
            self.notes.append(self.name)
            return Measurement(self.answer())


@dataclass
class Broken:
    """An objective that cannot be measured."""

    error: Exception
    name: str = "broken"
    stage: Stage = Stage.SHAPE
    limit: float | None = None
    direction: Direction = "minimize"
    unit: str = field(default="", repr=False)

    def measure(self, candidate: Candidate) -> Measurement:  # noqa: ARG002 - the protocol's
        raise self.error


@dataclass
class Given(Broken):
    """An objective that gives a measurement as it is."""

    error: Any

    def measure(self, candidate: Candidate) -> Measurement:  # noqa: ARG002 - the protocol's
        found: Measurement = self.error
        return found


@pytest.fixture
def prepared(teacher: Teacher, folder: Path) -> Prepared:
    """What all students of a study of nine steps share."""
    return Prepared(teacher, Cache(folder), distillation(steps=9))


@pytest.fixture
def candidate(prepared: Prepared) -> Candidate:
    """Half the teacher's layers."""
    return Candidate(prepared, prepared.teacher.architecture.scaled(layers=0.5))


@pytest.fixture
def own(prepared: Prepared) -> Candidate:
    """The teacher itself."""
    return Candidate(prepared, prepared.teacher.architecture)


def diverging(candidate: Candidate, steps: int) -> Candidate:
    """The candidate, whose training diverges."""
    wild = distillation(learning_rate=1e30, steps=steps)
    return replace(candidate, prepared=replace(candidate.prepared, distillation=wild))


def test_cheap_objectives_are_measured_first_whatever_their_order(candidate: Candidate) -> None:
    notes: list[str] = []
    objectives = [Noted(stage.name, stage, notes) for stage in reversed(Stage)]
    trial = Evaluation(3, candidate, objectives).trial()
    assert notes == ["ARCHITECTURE", "SHAPE", "STUDENT", "STUDENT"]  # the last as cut and healed
    assert trial.state is State.COMPLETE
    assert set(trial.measurements) == set(notes) < set(trial.seconds)
    assert (trial.number, trial.key) == (3, candidate.architecture.key())


@pytest.mark.parametrize(
    ("direction", "limit"), [("minimize", 0.5), ("maximize", 2.0)], ids=["above", "below"]
)
def test_over_a_limit_nothing_dearer_is_measured(
    candidate: Candidate, direction: Direction, limit: float
) -> None:
    notes: list[str] = []
    objectives: list[Objective] = [
        Noted("dear", Stage.STUDENT, notes),
        Noted("cheap", Stage.ARCHITECTURE, notes, limit=limit, direction=direction),
    ]
    trial = Evaluation(0, candidate, objectives).trial()
    assert trial.state is State.SCREENED
    assert trial.reason == f"cheap 1 is beyond the limit {limit:g}"
    assert set(trial.measurements) == {"cheap"}
    assert notes == ["cheap"]


def test_a_limit_that_is_just_met_screens_nothing(candidate: Candidate) -> None:
    trial = Evaluation(0, candidate, [Noted("cheap", Stage.ARCHITECTURE, [], limit=1.0)]).trial()
    assert trial.state is State.COMPLETE


def test_over_a_limit_on_what_training_tells_a_trial_is_complete(candidate: Candidate) -> None:
    trial = Evaluation(0, candidate, [Noted("dear", Stage.STUDENT, [], limit=0.5)]).trial()
    assert trial.state is State.COMPLETE
    assert trial.reason == "dear 1 is beyond the limit 0.5"


def test_the_teacher_is_measured_in_full_over_any_limit(own: Candidate) -> None:
    trial = Evaluation(0, own, [Memory(limit=1e-6), Retention()]).trial()
    assert trial.state is State.COMPLETE
    assert trial.measurements["retention"].value == pytest.approx(1.0)
    assert "distil" not in trial.seconds
    assert trial.training is None


@pytest.mark.parametrize(
    "error",
    [
        Infeasible("no such size"),
        RuntimeError("shape mismatch"),
        MemoryError("too large"),
        ValueError("cannot reshape"),
        StopAsyncIteration("ended early"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ZeroDivisionError("no heads"),
        BadInput("no such label"),
    ],
)
def test_a_candidate_that_cannot_be_measured_fails_with_the_reason(
    candidate: Candidate, error: Exception
) -> None:
    trial = Evaluation(0, candidate, [Memory(), Broken(error)]).trial()
    assert trial.state is State.FAILED
    assert trial.reason == f"{type(error).__name__}: {error}"
    assert set(trial.measurements) == {"memory_mb"}


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("the phone is locked"),
        DiskFull("no space left"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_what_no_other_candidate_would_escape_ends_the_study(
    candidate: Candidate, error: Exception
) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))):
        Evaluation(0, candidate, [Broken(error)]).trial()


def test_what_the_teacher_cannot_use_ends_the_study(own: Candidate) -> None:
    with pytest.raises(BadInput, match="no such label"):
        Evaluation(0, own, [Broken(BadInput("no such label"))]).trial()


@pytest.mark.parametrize(
    "given",
    [{"value": np.float32(1)}, {"details": {"shape": {1}}}, {"samples": (1j,)}, {"value": None}],
    ids=str,
)
def test_a_measurement_that_cannot_be_stored_fails_the_candidate(
    candidate: Candidate, given: dict[str, Any]
) -> None:
    odd = Given(Measurement(**({"value": 1.0} | given)))
    trial = Evaluation(0, candidate, [Memory(), odd]).trial()
    assert trial.state is State.FAILED
    assert set(trial.measurements) == {"memory_mb"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_finite_number_fails_the_candidate(
    candidate: Candidate, value: float
) -> None:
    trial = Evaluation(
        0, candidate, [Memory(), Noted("odd", Stage.STUDENT, [], lambda: value)]
    ).trial()
    assert trial.state is State.FAILED
    assert trial.reason == f"ProtegeError: odd is {value}, not a finite number"
    assert set(trial.measurements) == {"memory_mb"}


def test_training_that_diverges_fails_the_candidate(candidate: Candidate) -> None:
    trial = Evaluation(0, diverging(candidate, steps=2), [Retention()]).trial()
    assert trial.state is State.FAILED
    assert "after step 1 is nan, not a finite number" in trial.reason
    assert "lower learning_rate=1e+30" in trial.reason


def test_training_that_diverges_in_its_last_step_fails_the_candidate(candidate: Candidate) -> None:
    trial = Evaluation(0, diverging(candidate, steps=1), [Retention()]).trial()
    assert trial.state is State.FAILED


def raced(halted: Evaluation, *, until: int) -> tuple[Trial, dict[int, dict[str, float]]]:
    """The trial of a candidate that is stopped at a step, and all figures at each of its rungs."""
    seen = {}
    while rung := halted.advance():
        seen[rung.step] = {name: one.value for name, one in halted.measurements.items()}
        if rung.step >= until:
            halted.stop()
            break
    return halted.trial(), seen


def test_a_candidate_is_trained_until_it_is_stopped(candidate: Candidate) -> None:
    halted = Evaluation(5, candidate, [Retention(), Memory()], halts=True)
    trial, seen = raced(halted, until=3)
    assert trial.state is State.STOPPED
    assert list(trial.rungs) == list(seen) == [0, 1, 3]
    assert trial.stopped_at == 3
    # all objectives are known, each time
    memory = trial.measurements["memory_mb"].value
    assert [*seen.values()] == [
        {"memory_mb": memory, "retention": value} for value in trial.curve.values()
    ]
    found = trial.measurements["retention"]
    assert found.value == trial.curve[3]
    assert trial.training is not None
    assert (trial.training.steps, len(trial.training.losses), trial.best_step) == (3, 3, 3)
    assert trial.reason == f"outranked at step 3, with retention {found.value:.4g}"


def test_at_the_last_rung_there_is_nothing_to_decide(candidate: Candidate) -> None:
    objectives: list[Objective] = [Memory(), Retention()]
    trial, seen = raced(Evaluation(5, candidate, objectives, halts=True), until=100)
    assert trial.state is State.COMPLETE
    assert trial.stopped_at is None
    assert list(trial.rungs) == [0, 1, 3, 9]
    assert list(seen) == [0, 1, 3]
    plain = Evaluation(5, candidate, objectives).trial()
    assert trial.measurements == plain.measurements
    assert trial.rungs == plain.rungs


def test_what_is_scored_at_the_end_alone_is_not_scored_of_one_that_is_stopped(
    candidate: Candidate,
) -> None:
    dear, cheap = Noted("dear", Stage.STUDENT, []), Noted("cheap", Stage.SHAPE, [])
    objectives: list[Objective] = [Retention(), dear, cheap]
    stopped, seen = raced(Evaluation(0, candidate, objectives, halts=True), until=0)
    assert set(seen[0]) == set(stopped.measurements) == {"cheap", "retention"}
    whole, _ = raced(Evaluation(0, candidate, objectives, halts=True), until=100)
    assert set(whole.measurements) == {"cheap", "retention", "dear"}


def test_what_is_measured_already_is_not_measured_again(candidate: Candidate) -> None:
    notes: list[str] = []
    stages = {"cheap": Stage.ARCHITECTURE, "dear": Stage.STUDENT}
    objectives = [Noted(name, stage, notes) for name, stage in stages.items()]
    known = {"cheap": Measurement(7.0)}
    trial = Evaluation(5, candidate, objectives, measurements=known).trial()
    assert notes == ["dear", "dear"]  # of the trained student, and as cut and healed
    assert {name: one.value for name, one in trial.measurements.items()} == {"cheap": 7, "dear": 1}


def test_one_that_was_stopped_does_not_go_on(candidate: Candidate) -> None:
    stopped = Evaluation(5, candidate, [Retention()], halts=True)
    assert stopped.advance()
    stopped.stop()
    assert stopped.advance() is None
    assert (stopped.trial().state, stopped.trial().stopped_at) == (State.STOPPED, 0)


def test_only_its_own_time_is_booked_on_a_candidate(candidate: Candidate) -> None:
    one = Evaluation(0, candidate, [Retention()], halts=True)
    one.advance()
    with candidate.stopwatch.phase("of another"):
        pass
    found = one.trial().seconds
    assert "distil" in found
    assert "of another" not in found


def test_the_student_s_parameters_are_counted_exactly(candidate: Candidate) -> None:
    trial = Evaluation(3, candidate, [Parameters()]).trial()
    assert trial.parameters == round(trial.measurements["parameters_m"].value * 1e6) > 0
    screened = Evaluation(4, candidate, [Parameters(limit=1e-9)]).trial()
    assert screened.parameters is None
