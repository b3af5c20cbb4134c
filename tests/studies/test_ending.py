from pathlib import Path

from protege.search import ChosenStudent
from studies.ending import compared, fast_enough, free
from tests.search.report.drawn import LATENCY, RETENTION, classic, drawn


def test_of_the_students_twice_as_fast_the_best_is_exported() -> None:
    # of 40 ms half is 20 ms, which one that takes 20 ms within its error does not surely meet
    assert fast_enough(classic(), 2).trial.number == 4


def test_where_none_is_fast_enough_the_fastest_is() -> None:
    rows = [(40.0, 1.0), (30.0, 0.9), (35.0, 0.95), (38.0, 0.97)]
    front = drawn([LATENCY, RETENTION], rows)
    assert fast_enough(front, 2).trial.number == 2  # the naive half is no student


def test_without_a_teacher_the_fastest_is() -> None:
    front = drawn([LATENCY, RETENTION], [(40.0, 1.0), (30.0, 0.9)], about={"teacher": {}})
    assert fast_enough(front, 2).trial.number == 1


def test_both_measurements_stand_side_by_side() -> None:
    front = classic()
    again = {"latency_ms": 8.5, "speedup": 4.7, "retention": 0.5, "unseen_retention": 0.4}
    lines = compared(ChosenStudent(front.trial(4), front), again).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["latency_ms", "8.0000", "8.5000"],
        ["speedup", "5.0000", "4.7000"],
        ["retention", "0.5000", "0.5000"],
        ["unseen_retention", "-", "0.4000"],
    ]


def test_a_student_is_exported_beside_what_is_there(tmp_path: Path) -> None:
    assert free(tmp_path / "student") == tmp_path / "student"
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "mine.txt").write_text("mine")
    (tmp_path / "student-2").symlink_to(tmp_path / "nowhere")
    assert free(tmp_path / "student") == tmp_path / "student-3"
    assert (tmp_path / "student" / "mine.txt").read_text() == "mine"
