"""Baselines are measured once by the objectives of a study, and are no trials of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from protege.objectives import (
    Candidate,
    Direction,
    Latency,
    LocalCPU,
    Measurement,
    Memory,
    Retention,
    Stage,
    StaticEmbedding,
    Workload,
)
from protege.objectives.latency import Plan
from protege.search import Front, Search
from protege.spaces import BadInput, Teacher
from tests.search.toys import toy
from tests.tiny import CASES, save

QUICK = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


@dataclass(frozen=True)
class Counting:
    """The hidden size, which notes every architecture that it is asked about."""

    broken: bool = False

    name: ClassVar[str] = "width"
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE
    limit: ClassVar[float | None] = None
    asked: ClassVar[list[str]] = []
    fails: ClassVar[list[str]] = []

    def measure(self, candidate: Candidate) -> Measurement:
        own = candidate.architecture
        self.asked.append(own.model_type)
        if own.model_type in self.fails:
            raise ValueError("no width today")
        return Measurement(float(own.hidden_size))


@pytest.fixture(autouse=True)
def unasked() -> Iterator[None]:
    yield
    Counting.asked.clear()
    Counting.fails.clear()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An off-the-shelf sentence encoder of other weights and fewer layers."""
    case = replace(CASES["bert-sentences"], fields={"num_hidden_layers": 1})
    return save(case.teacher(seed=5), tmp_path_factory.mktemp("shelf") / "small-encoder")


def searched(folder: Path, teacher: Teacher, student: Path, **changes: Any) -> Search:
    given: dict[str, Any] = {
        "teacher": teacher,
        "objectives": [Memory(), Counting(), Retention()],
        "baselines": [student, StaticEmbedding(dim=8)],
    }
    return toy(folder, **(given | changes))


def test_they_are_measured_by_every_objective_and_are_no_trials(
    folder: Path, teacher: Teacher, student: Path
) -> None:
    front = searched(folder, teacher, student).run(trials=3)
    assert len(front.trials) == 3
    shelf, static = front.baselines
    assert (shelf.name, shelf.source) == ("small-encoder", str(student))
    assert (static.name, static.architecture["hidden_size"]) == ("static-8", 8)
    for one in (shelf, static):
        assert one.measurements.keys() == {"memory_mb", "width", "retention"}
        own, students = one.measurements["retention"], front.trials[1].measurements["retention"]
        assert len(own.examples) == len(students.examples) > 0
        assert one.reasons == {}
    assert (folder / "front.csv").read_text(encoding="utf-8").count("baseline") == 3  # and a column


def test_latency_is_measured_of_the_loaded_classes(
    folder: Path, teacher: Teacher, student: Path
) -> None:
    latency = Latency(LocalCPU(threads=1), Workload(prompt_tokens=8), plan=QUICK)
    front = searched(folder, teacher, student, objectives=[latency, Retention()]).run(trials=2)
    for one in front.baselines:
        assert one.measurements["latency_ms"].value > 0
        assert one.measurements["latency_ms"].details["ratio_to_teacher"] != 1.0
    shelf, static = (one.measurements["latency_ms"].value for one in front.baselines)
    assert static < shelf


def test_they_are_not_measured_twice(folder: Path, teacher: Teacher, student: Path) -> None:
    first = searched(folder, teacher, student).run(trials=2).baselines
    assert Counting.asked.count("static") == 1
    front = searched(folder, teacher, student).run(trials=3)
    assert Counting.asked.count("static") == 1
    assert front.baselines == first


def test_what_failed_is_noted_and_tried_again(
    folder: Path, teacher: Teacher, student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Counting.fails.append("static")
    front = searched(folder, teacher, student).run(trials=2)
    static = front.baselines[1]
    assert static.measurements.keys() == {"memory_mb", "retention"}
    assert static.reasons == {"width": "ValueError: no width today"}
    assert "baseline static-8 has no width: ValueError: no width today" in caplog.text
    assert "Its width could not be measured" in front.report().read_text(encoding="utf-8")
    Counting.fails.clear()
    static = searched(folder, teacher, student).run(trials=2).baselines[1]
    assert static.reasons == {}
    assert static.measurements["width"].value == 8


def test_they_may_change_when_a_study_is_resumed(
    folder: Path, teacher: Teacher, student: Path
) -> None:
    searched(folder, teacher, student).run(trials=2)
    front = searched(folder, teacher, student, baselines=[StaticEmbedding(dim=4)]).run(trials=3)
    assert [one.name for one in front.baselines] == ["static-4"]
    assert Front.read(folder).baselines == front.baselines
    assert searched(folder, teacher, student, baselines=()).run(trials=3).baselines == []


def test_a_wrong_one_is_refused_before_the_study_starts(
    folder: Path, teacher: Teacher, tmp_path: Path
) -> None:
    other = save(CASES["bert-texts"].teacher(), tmp_path / "classifier")
    search = searched(folder, teacher, other, baselines=[other])
    with pytest.raises(BadInput, match="a model for text-classification, and the teacher is one"):
        search.run(trials=2)
    assert not (folder / "study.db").exists()


def test_the_report_draws_and_names_them(folder: Path, teacher: Teacher, student: Path) -> None:
    front = searched(folder, teacher, student).run(trials=3)
    page = front.report().read_text(encoding="utf-8")
    assert "Squares are the baselines small-encoder, static-8." in page
    assert "small-encoder dominates" in page
    costs = [one.name for one in front.objectives.records if one.direction == "minimize"]
    drawn = [[trace.name for trace in front.plot(x=cost).data] for cost in costs]
    assert [names.count("Baseline") for names in drawn] == [1, 1]
