"""What an earlier study of the same teacher has measured is not measured again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, Measurement, Memory, Retention
from protege.search import Front, Race, State
from protege.search.planning.calibrating import compute_outputs
from protege.search.storage.storage import read_study
from protege.spaces import BadInput, Choice, Mismatch, Teacher
from tests.search.toys import NARROW, PLAIN, distillation, forwards, toy

HARD = Race(eta=4.0, min_records=1)
WIDER = replace(NARROW, intermediate=Choice(0.4, 0.6, 1.0))
"""Thirteen students, the nine of `NARROW` among them."""


def nine(**changes: Any) -> dict[str, Any]:
    return {"distillation": distillation(steps=9), "race": HARD} | changes


@pytest.fixture(scope="module")
def known(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Front:
    """A study of nine students that is finished; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("earlier")
    return toy(folder, teacher=teacher, name="earlier", space=NARROW, **nine()).run(trials=9)


def by_key(front: Front) -> Mapping[str, Any]:
    return {trial.key: trial for trial in front.trials}


def test_what_is_known_is_taken_over_and_the_rest_is_tried(
    known: Front, folder: Path, teacher: Teacher
) -> None:
    search = toy(folder, teacher=teacher, space=WIDER, earlier=[known.folder], **nine())
    front = search.run(trials=30)
    assert len(front.trials) == len(search.students) == 13
    assert len(by_key(front)) == 13
    assert [trial.number for trial in front.trials] == [*range(13)]
    for trial in known.trials:
        own = by_key(front)[trial.key]
        assert (own.state, own.measurements, own.rungs) == (
            trial.state,
            trial.measurements,
            trial.rungs,
        )
    stored = read_study(f"sqlite:///{folder}/study.db").trials
    assert [t.number for t in stored if t.user_attrs.get("imported")] == [*range(9)]
    for trial in front.trials:
        values = front.objectives.values(trial) if trial.state is State.COMPLETE else None
        assert stored[trial.number].values == values


def test_nothing_that_is_known_is_measured_or_trained(
    known: Front, folder: Path, teacher: Teacher
) -> None:
    search = toy(folder, teacher=teacher, space=NARROW, earlier=[known.folder], **nine())
    compute_outputs(search.prepare())
    with forwards() as calls:
        front = search.run(trials=9)
    assert calls == []
    assert {t.key for t in front.members} == {t.key for t in known.members}


def test_students_on_the_front_come_with_their_weights(
    known: Front, folder: Path, teacher: Teacher
) -> None:
    search = toy(folder, teacher=teacher, space=NARROW, earlier=[known.folder], **nine())
    front = search.run(trials=9)
    for trial in front.members:
        there = by_key(known)[trial.key]
        one, other = (
            study.folder / "artifacts" / f"trial-{number:05d}" / "model.safetensors"
            for study, number in ((front, trial.number), (known, there.number))
        )
        assert one.read_bytes() == other.read_bytes()
    choice = front.members[0]
    front.export(choice.number, folder / "exported")
    assert (folder / "exported" / "README.md").is_file()


def test_others_race_against_what_is_known(known: Front, folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, space=WIDER, earlier=[known.folder], **nine())
    search.run(trials=10)
    stored = read_study(f"sqlite:///{folder}/study.db").trials
    there = read_study(f"sqlite:///{known.folder}/study.db").trials
    first = {t.user_attrs["key"]: t.user_attrs["rung:0"] for t in there}
    own = {t.user_attrs["key"]: t.user_attrs["rung:0"] for t in stored if "key" in t.user_attrs}
    assert own.items() >= first.items()


def test_what_is_added_to_the_earlier_study_is_taken_over_later(
    folder: Path, teacher: Teacher, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    toy(earlier, teacher=teacher, name="earlier", space=NARROW, **nine()).run(trials=3)
    given = nine(space=WIDER, earlier=[earlier])
    assert len(toy(folder, teacher=teacher, **given).run(trials=4).trials) == 4
    toy(earlier, teacher=teacher, name="earlier", space=NARROW, **nine()).run(trials=6)
    front = toy(folder, teacher=teacher, **given).run(trials=13)
    assert len(by_key(front)) == len(front.trials) == 13


def test_a_limit_is_judged_anew(known: Front, folder: Path, teacher: Teacher) -> None:
    own = known.teacher
    assert own is not None
    limit = 0.9 * own.measurements["memory_mb"].value
    objectives = [Memory(limit=limit), Retention()]
    given = nine(objectives=objectives, space=NARROW, earlier=[known.folder])
    front = toy(folder, teacher=teacher, **given).run(trials=9)
    assert all(t.measurements["memory_mb"].value <= limit for t in front.members)
    stored = read_study(f"sqlite:///{folder}/study.db").trials
    assert all(set(trial.constraints) == {"memory_mb"} for trial in stored)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"distillation": distillation(steps=18)}, "distillation.steps: recorded 9, given 18"),
        (
            {"objectives": [Memory()], "distillation": None, "space": PLAIN},
            "distillation: recorded .*, given nothing",
        ),
        ({"seed": 1}, "seed: recorded 0, given 1"),
    ],
)
def test_a_study_that_was_made_with_something_else_is_refused(
    known: Front, folder: Path, teacher: Teacher, changes: dict[str, Any], part: str
) -> None:
    given = nine(earlier=[known.folder]) | changes
    with pytest.raises(Mismatch, match=rf"earlier study 'earlier' was made otherwise \({part}"):
        toy(folder, teacher=teacher, **given).run(trials=2)


def test_a_run_that_is_not_there_is_named(folder: Path, teacher: Teacher) -> None:
    with pytest.raises(BadInput, match="no study there"):
        toy(folder, teacher=teacher, earlier=[folder / "none"]).run(trials=2)


def test_those_that_failed_are_tried_here(
    folder: Path, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Memory.measure

    def broken(self: Memory, candidate: Candidate) -> Measurement:
        if not candidate.is_teacher:
            raise RuntimeError("out of memory")
        return measure(self, candidate)

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "measure", broken)
        toy(tmp_path / "earlier", teacher=teacher, name="earlier", **nine()).run(trials=3)
    front = toy(folder, teacher=teacher, earlier=[tmp_path / "earlier"], **nine()).run(trials=3)
    assert all(trial.state is not State.FAILED for trial in front.trials)
    assert len(by_key(front)) == 3
