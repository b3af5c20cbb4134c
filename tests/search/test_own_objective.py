"""An objective that a user defines gets limits, races, confirmation and a report like ours."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from protege.objectives import Candidate, Direction, Measurement, Memory, Retention, Stage, Texts
from protege.search import Front, Race, Search, State
from protege.spaces import Teacher
from tests.search.toys import WIDE, distillation, toy
from tests.tiny import texts


@dataclass(frozen=True)
class Closeness:
    """How close a student's vectors are to its teacher's, on texts that are given."""

    name: str = "closeness"
    given: tuple[str, ...] = tuple(texts(60)[40:50])
    unseen: tuple[str, ...] = tuple(texts(60)[50:])
    limit: float | None = None
    unit: str = ""
    direction: Direction = "maximize"
    stage: Stage = Stage.STUDENT
    at_rungs: bool = True

    def measure(self, candidate: Candidate) -> Measurement:
        return Measurement(self._closeness(candidate, self.given))

    def measure_unseen(self, candidate: Candidate) -> Measurement:
        return Measurement(self._closeness(candidate, self.unseen))

    def _closeness(self, candidate: Candidate, given: Sequence[str]) -> float:
        read = candidate.teacher.tokenizer(list(given), padding=True, return_tensors="pt")
        pair: tuple[Any, ...] = (candidate.student.module, candidate.teacher.embedder())
        with torch.inference_mode():
            return float(cosine_similarity(*(model(**read) for model in pair)).mean())


STEPS = [0, 1, 3, 9]
"""The rungs of nine steps."""


def searched(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    """A study whose candidates race hard by that objective."""
    given: dict[str, Any] = {
        "teacher": teacher,
        "space": WIDE,
        "distillation": distillation(steps=9),
        "race": Race(eta=4.0, min_records=1),
    }
    return toy(folder, **(given | changes))


LIMIT = 0.95


@pytest.fixture(scope="module")
def ran(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, Front]:
    """A study with a limit on it, and its front; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("own")
    search = searched(folder, teacher, objectives=[Memory(), Closeness(limit=LIMIT)])
    return search, search.run(trials=12)


def test_it_has_at_most_twenty_lines() -> None:
    lines = [line for line in inspect.getsource(Closeness).splitlines() if line.strip()]
    assert len(lines) <= 20


def test_it_limits(ran: tuple[Search, Front]) -> None:
    _, front = ran
    complete = {
        trial.measurements["closeness"].value >= LIMIT: trial
        for trial in front.trials
        if trial.state is State.COMPLETE
    }
    assert complete.keys() == {True, False}
    assert complete[False].reason.startswith("closeness 0.")
    assert complete[False].reason.endswith(f"is beyond the limit {LIMIT}")
    assert all(trial.measurements["closeness"].value >= LIMIT for trial in front.members)


def test_it_races(ran: tuple[Search, Front]) -> None:
    _, front = ran
    stopped = [trial for trial in front.trials if trial.state is State.STOPPED]
    assert stopped
    for trial in stopped:
        assert trial.reason.startswith(f"outranked at step {trial.stopped_at}, with closeness 0.")
    for trial in front.trials:
        assert list(trial.rungs) == STEPS[: len(trial.rungs)]
        assert {name for values in trial.rungs.values() for name in values} == {"closeness"}
        assert trial.measurements["closeness"].value == max(trial.curve.values())


def test_a_student_that_is_best_by_it_is_exported_and_confirmed(
    ran: tuple[Search, Front], tmp_path: Path
) -> None:
    search, front = ran
    student = next(trial for trial in front.members if trial is not front.teacher)
    figures = search.confirm(front.export(student, tmp_path / "student"))
    assert set(figures) == {"memory_mb", "closeness", "unseen_closeness"}
    assert figures["closeness"] == pytest.approx(student.measurements["closeness"].value, abs=1e-6)
    assert 0 < abs(figures["unseen_closeness"] - figures["closeness"]) < 0.2


def test_it_is_in_the_report(ran: tuple[Search, Front], tmp_path: Path) -> None:
    _, front = ran
    page = front.report(tmp_path).read_text(encoding="utf-8")
    assert "Closeness by steps of distillation" in page
    assert "Retention" not in page
    assert "closeness" in front.table


def test_two_of_ours_and_two_of_theirs_live_in_one_study(folder: Path, teacher: Teacher) -> None:
    objectives = [
        Memory(),
        Retention(),
        Retention(Texts.of(texts(90)[60:]), label="others"),
        Closeness(),
        Closeness("similarity", given=tuple(texts(99)[90:])),
    ]
    names = ["retention", "retention_others", "closeness", "similarity"]
    search = searched(folder, teacher, objectives=objectives, race=None)
    front = search.run(trials=4)
    assert front.objectives.names == ["memory_mb", *names]
    for trial in front.trials:
        assert trial.state is State.COMPLETE
        assert all(list(values) == names for values in trial.rungs.values())
    student = next(trial for trial in front.members if trial is not front.teacher)
    values = [student.measurements[name].value for name in names]
    assert len(set(values)) == 4
    figures = search.confirm(front.export(student))
    assert set(figures) == {"memory_mb", *names, *(f"unseen_{name}" for name in names)}
    assert [figures[name] for name in names] == pytest.approx(values, abs=1e-6)


def test_what_it_cannot_tell_at_rungs_is_told_at_the_end(folder: Path, teacher: Teacher) -> None:
    late = Closeness(at_rungs=False)
    search = searched(folder, teacher, objectives=[Memory(), Retention(), late])
    trials = search.run(trials=8).trials
    assert {trial.state for trial in trials} == {State.COMPLETE, State.STOPPED}
    for trial in trials:
        assert ("closeness" in trial.measurements) == (trial.state is State.COMPLETE)
        assert all(list(values) == ["retention"] for values in trial.rungs.values())


def test_without_one_that_is_scored_at_rungs_retention_selects(
    folder: Path, teacher: Teacher
) -> None:
    search = searched(folder, teacher, objectives=[Memory(), Closeness(at_rungs=False)])
    front = search.run(trials=3)
    for trial in front.trials:
        assert trial.state is State.COMPLETE
        assert set(trial.measurements) == {"memory_mb", "closeness"}
        assert list(trial.rungs) == STEPS
