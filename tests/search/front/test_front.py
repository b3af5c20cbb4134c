import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from protege.objectives import Measurement, Memory, Retention
from protege.search import Front, State, Trial
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.spaces import BadInput, Teacher
from protege.spaces.space.knobs import SIZES
from tests.search.toys import OWN, toy


def drawn(rows: list[tuple[float, float]], state: State = State.COMPLETE) -> Front:
    """A front of milliseconds and quality; its teacher takes 10 ms."""
    objectives = ObjectiveRecords(
        (
            ObjectiveRecord("latency_ms", "ms", "minimize"),
            ObjectiveRecord("quality", "", "maximize"),
        )
    )
    trials = tuple(
        Trial(
            number=number,
            key=f"key-{number}",
            architecture=OWN.fields(),
            state=state,
            measurements={"latency_ms": Measurement(ms, 0.1), "quality": Measurement(quality)},
        )
        for number, (ms, quality) in enumerate(rows)
    )
    return Front("drawn", Path(), objectives, trials, {"teacher": {"key": "key-0"}})


FIVE = drawn([(10, 1.0), (8, 0.9), (6, 0.8), (5, 0.5), (9, 0.7)])


def test_the_table_has_one_row_a_student_and_names_every_unit(front: Front) -> None:
    table = front.table
    assert list(table.columns) == [
        *("trial", "student", "memory_mb", "memory_mb_spread", "retention", "retention_spread"),
        *(name for name in SIZES if name in front.trials[0].architecture),
        *("layer_policy", "width_policy", "healing", "best_step"),
        *("role", "dominated_within_noise_by"),
        *("on_front", "state", "reason"),
    ]
    assert list(table["trial"]) == [trial.number for trial in front.members]
    assert table["memory_mb"].is_monotonic_increasing
    assert table["on_front"].all()


def test_the_table_says_what_was_measured(front: Front) -> None:
    for (_, row), trial in zip(front.table.iterrows(), front.members, strict=True):
        found = trial.measurements["retention"]
        assert (row["retention"], row["retention_spread"]) == (found.value, found.spread)
        assert {name: row[name] for name in SIZES if name in row} == {
            name: trial.architecture[name] for name in SIZES if name in trial.architecture
        }
        assert row["student"] == trial.label


def test_candidates_are_all_trials_in_order_with_what_became_of_them(front: Front) -> None:
    candidates = front.candidates
    assert list(candidates["trial"]) == list(range(9))
    assert list(candidates["state"]) == [str(trial.state) for trial in front.trials]
    assert set(candidates["state"]) == {"complete", "stopped"}
    assert set(candidates.loc[candidates["on_front"], "state"]) == {"complete"}
    on_front = candidates.loc[candidates["on_front"], "trial"]
    assert set(on_front) == {trial.number for trial in front.members}


def test_what_was_not_measured_is_blank_in_the_table() -> None:
    trial = Trial(0, "key", OWN.fields(), State.FAILED, {}, reason="RuntimeError: no")
    row = Front("drawn", Path(), FIVE.objectives, (trial,)).candidates.iloc[0]
    assert math.isnan(row["quality"])
    assert (row["state"], row["reason"]) == ("failed", "RuntimeError: no")


def test_hypervolume_counts_from_the_teacher() -> None:
    # boxes from the teacher at (1, 0): 0.2 x 0.9, then 0.2 x 0.8 and 0.1 x 0.5 beyond it
    assert FIVE.hypervolume == pytest.approx(0.2 * 0.9 + 0.2 * 0.8 + 0.1 * 0.5)


def test_without_its_teacher_a_front_has_no_hypervolume() -> None:
    assert math.isnan(Front("drawn", Path(), FIVE.objectives, FIVE.trials).hypervolume)


@pytest.mark.parametrize(
    ("budgets", "number"),
    [
        ({"latency_ms": 8}, 1),
        ({"latency_ms": 7.9}, 2),
        ({"latency_ms": 100}, 1),
        ({"latency_ms": 5}, 3),
        ({"quality": 0.75}, 2),
        ({"quality": 0.75, "latency_ms": 7}, 2),
        ({"quality": 0.75, "latency_ms": 9}, 1),
        ({}, 2),
    ],
)
def test_the_best_within_the_budgets_is_picked(budgets: dict[str, float], number: int) -> None:
    assert FIVE.pick(**budgets).trial.number == number


def test_without_anything_to_maximise_the_least_of_what_has_no_budget_is_picked() -> None:
    objectives = ObjectiveRecords(
        tuple(ObjectiveRecord(name, "", "minimize") for name in ("a", "b"))
    )
    pairs = enumerate([(1.0, 9.0), (2.0, 5.0), (3.0, 2.0)])
    trials = tuple(
        Trial(
            number=number,
            key=str(number),
            architecture=OWN.fields(),
            state=State.COMPLETE,
            measurements={"a": Measurement(a), "b": Measurement(b)},
        )
        for number, (a, b) in pairs
    )
    front = Front("drawn", Path(), objectives, trials)
    assert front.pick(a=2.5).trial.number == 1
    assert front.pick(b=6).trial.number == 1
    assert front.pick(b=2).trial.number == 2


def test_a_budget_that_nobody_meets_names_the_best_there_is() -> None:
    with pytest.raises(
        BadInput, match=r"latency_ms=4: no student .* least latency_ms is 5.00 \(trial 3\)$"
    ):
        FIVE.pick(latency_ms=4)
    with pytest.raises(
        BadInput, match=r"quality=1.5: no student .* best quality is 0.900 \(trial 1\)$"
    ):
        FIVE.pick(quality=1.5)


def test_a_budget_for_what_is_no_objective_names_the_objectives() -> None:
    with pytest.raises(BadInput, match=r"unknown objective 'memory_mb'.* has latency_ms, quality"):
        FIVE.pick(memory_mb=4)


def test_a_trial_that_is_not_there_is_refused() -> None:
    assert FIVE.trial(3).measurements["latency_ms"].value == 5
    with pytest.raises(BadInput, match="no trial 9 in study 'drawn'"):
        FIVE.trial(9)


def test_a_front_that_nobody_is_on_has_the_columns_of_any_other() -> None:
    empty = drawn([(10, 1.0)], State.SCREENED)
    assert list(empty.table.columns) == list(FIVE.table.columns)
    assert len(empty.table) == 0
    assert str(empty) == "No student is within the study's limits."
    with pytest.raises(BadInput, match="the front is empty, no trial is within the study's limits"):
        empty.pick(latency_ms=5)


def test_a_choice_reads_as_trial_label_and_figures() -> None:
    assert str(FIVE.pick(latency_ms=8)).splitlines() == [
        "trial 1: 4x24-h6-f40-t1",
        "  latency_ms     8 ± 0.1  80% of the teacher",
        "  quality        0.9 ± 0  90% of the teacher",
        "  sizes          layers 4, hidden size 24, heads 6, feed-forward 40",
        "  chosen         the best quality within 8 ms",
        "  one step down  trial 2, 4x24-h6-f40: latency_ms 6.00, quality 0.800",
    ]


@pytest.mark.parametrize("place", ["{}", "{}/study.db", "sqlite:///{}/study.db"])
def test_a_front_is_read_from_the_folder_the_file_or_the_url(
    front: Front, run_folder: Path, place: str
) -> None:
    read = Front.read(place.format(run_folder))
    assert read.trials == front.trials
    assert read.folder.resolve() == run_folder.resolve()
    assert read.table.equals(front.table)


def test_a_run_folder_can_be_moved_and_read_from_anywhere(
    run_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_folder, folder / "moved")
    monkeypatch.chdir(folder)
    moved = Front.read("moved")
    target = moved.pick().export()
    assert target.resolve().is_relative_to(folder.resolve() / "moved" / "students")
    assert (target / "model.safetensors").exists()


def test_the_csv_is_the_table(run_folder: Path, front: Front) -> None:
    stored = pd.read_csv(run_folder / "front.csv", keep_default_na=False)
    assert list(stored.columns) == list(front.table.columns)
    stored["best_step"] = pd.to_numeric(stored["best_step"])  # blank for the teacher
    pd.testing.assert_frame_equal(stored, front.table, check_dtype=False)


def test_reading_what_has_no_study_says_so(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"study.db: no study there"):
        Front.read(folder)
    (folder / "study.db").write_text("not a database, for all its name says it is one")
    with pytest.raises(BadInput, match=r"study.db: not a SQLite database"):
        Front.read(folder)


def test_a_study_whose_every_student_misses_a_limit_still_has_its_table(
    folder: Path, teacher: Teacher
) -> None:
    # what students retain is known only after training: they are complete, and off the front
    strict = [Memory(), Retention(limit=2.0)]
    front = toy(folder, teacher=teacher, objectives=strict).run(trials=1)
    assert front.members == []
    assert front.hypervolume == 0
    assert (folder / "front.csv").read_text(encoding="utf-8").startswith("trial,student,")
