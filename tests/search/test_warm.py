"""A student may start from what a similar one has learnt, and stays the student that it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protege.objectives import Candidate, Memory, Progressive, Retention
from protege.search import Front, Search, State, Trial
from protege.search.evaluating import evaluate
from protege.search.results import artifact, keep
from protege.search.warm import finished, warm
from protege.spaces import (
    Architecture,
    BadInput,
    Cache,
    Ends,
    First,
    Mismatch,
    Student,
    Teacher,
)
from tests.search.toys import PLAIN, WIDE, retention, toy

SPACE = PLAIN
"""Students that are nested one in another and not healed: nine of them."""


def at(teacher: Teacher, layers: float, intermediate: float) -> Architecture:
    return teacher.architecture.scaled(
        layers=layers, intermediate=intermediate, layer_policy=Ends()
    )


def weights(student: Student) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in student.module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def learnt(folder: Path, teacher: Teacher, number: int, architecture: Architecture) -> Trial:
    """A student that is trained and kept as a study does it."""
    candidate = Candidate(teacher, architecture, Cache(folder / "cache"))
    trial = evaluate(number, candidate, [Memory(), retention()])
    assert trial.state is State.COMPLETE
    keep(folder, number, candidate)
    return trial


def test_a_nested_student_starts_from_the_nearest_one_that_has_learnt(
    folder: Path, teacher: Teacher
) -> None:
    space = SPACE.of(teacher)
    trials = [
        learnt(folder, teacher, 3, at(teacher, 1.0, 0.4)),  # as narrow, and two layers deeper
        learnt(folder, teacher, 4, at(teacher, 0.75, 0.4)),  # the nearest that has all of it
        learnt(folder, teacher, 5, at(teacher, 0.25, 0.4)),  # nearer still, and too shallow
    ]
    stored = finished(folder, trials, space, teacher)
    assert list(stored) == [artifact(folder, number) for number in (3, 4, 5)]
    wanted = at(teacher, 0.5, 0.4)
    heir, plain = warm(teacher, space, stored, wanted, None), teacher.student(wanted)
    assert heir is not None
    assert heir.manifest() == plain.manifest()
    near = Teacher.load(artifact(folder, 4), task=teacher.task).model.state_dict()
    mine = heir.model.state_dict()
    kept = {0: 0, 3: 2}  # the teacher's layers 0 and 3 are the first and third of the nearest one
    assert plain.kept.layers("encoder") == tuple(kept)
    for place, theirs in enumerate(kept.values()):
        name = "encoder.layer.{}.output.dense.weight"
        assert torch.equal(mine[name.format(place)], near[name.format(theirs)])
    assert torch.equal(
        mine["embeddings.word_embeddings.weight"], near["embeddings.word_embeddings.weight"]
    )
    assert not same(mine, plain.model.state_dict())


def test_one_that_is_nested_in_none_starts_from_its_teacher(folder: Path, teacher: Teacher) -> None:
    space = SPACE.of(teacher)
    trial = learnt(folder, teacher, 3, at(teacher, 0.5, 0.4))
    stored = finished(folder, [trial], space, teacher)
    wanted = at(teacher, 0.75, 0.4)
    assert warm(teacher, space, stored, wanted, None) is None
    candidate = Candidate(
        teacher,
        wanted,
        Cache(folder / "cache"),
        inherit=lambda one, known: warm(teacher, space, stored, one, known),
    )
    assert same(weights(candidate.student), weights(teacher.student(wanted)))


def test_neither_the_teacher_nor_weights_that_are_gone_are_finished_students(
    folder: Path, teacher: Teacher
) -> None:
    space = SPACE.of(teacher)
    trials = [
        learnt(folder, teacher, 0, teacher.architecture),
        replace(learnt(folder, teacher, 1, at(teacher, 0.75, 0.4)), number=2),
    ]
    assert artifact(folder, 0).exists()
    assert finished(folder, trials, space, teacher) == {}


def started(
    search: Search, monkeypatch: pytest.MonkeyPatch, trials: int = 9
) -> dict[str, dict[str, Tensor]]:
    """Run a whole study; the weights that each of its students was trained from, by key."""
    found: dict[str, dict[str, Tensor]] = {}
    train: Callable[..., Any] = Retention.training

    def noted(self: Retention, candidate: Candidate) -> Any:
        found[candidate.architecture.key()] = weights(candidate.student)
        return train(self, candidate)

    monkeypatch.setattr(Retention, "training", noted)
    search.run(trials=trials)
    return found


def plain_ones(search: Search, keys: dict[str, dict[str, Tensor]]) -> set[str]:
    """Those that were trained from the teacher's weights."""
    members = search.space.by_key
    return {
        key for key, own in keys.items() if same(own, weights(search.teacher.student(members[key])))
    }


def test_a_study_that_wants_it_starts_students_from_others(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = replace(WIDE, layer_policy=Ends(), width_policy=First(), healing="none")
    search = toy(folder, teacher=teacher, space=space, race=None, warm_start=True)
    from_where = started(search, monkeypatch, trials=14)
    front = Front.read(folder)
    cut = plain_ones(search, from_where)
    naive = search.space.baselines[1].key()
    assert naive in cut  # the yardstick is the same in every study
    assert len(cut) < len(from_where) == 13
    asked = {trial.key for trial in front.trials if "inherit" in trial.seconds}
    assert asked == from_where.keys() - {naive}
    assert from_where.keys() - cut <= asked
    for trial in front.members:  # whoever it started from, it is the student of its sizes
        entries = json.loads((artifact(folder, trial.number) / "protege.json").read_text("utf-8"))
        plain = teacher.student(search.space.by_key[trial.key])
        assert entries == json.loads(json.dumps(plain.manifest()))


def test_a_study_that_does_not_want_it_reads_no_student(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = toy(folder, teacher=teacher, space=SPACE, race=None)
    loaded: list[Any] = []
    load = Teacher.load

    def noted(source: Any, **options: Any) -> Teacher:
        loaded.append(source)
        return load(source, **options)

    monkeypatch.setattr(Teacher, "load", noted)
    from_where = started(search, monkeypatch)
    assert loaded == []
    assert plain_ones(search, from_where) == from_where.keys()
    assert not any("inherit" in trial.seconds for trial in Front.read(folder).trials)


def test_a_healed_student_that_inherits_is_not_healed_again(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, space=WIDE, race=None, warm_start=True)
    trials = search.run(trials=24).trials
    heirs = [t for t in trials if "inherit" in t.seconds and "heal" not in t.seconds]
    assert heirs
    assert {trial.architecture["healing"] for trial in heirs} == {"sequential"}


@pytest.mark.parametrize("first", [True, False])
def test_a_study_goes_on_as_it_began(folder: Path, teacher: Teacher, *, first: bool) -> None:
    toy(folder, teacher=teacher, space=SPACE, warm_start=first).run(trials=1)
    with pytest.raises(Mismatch, match=r"was made with another warm_start: recorded"):
        toy(folder, teacher=teacher, space=SPACE, warm_start=not first).run(trials=2)


def test_starting_warm_and_starting_deeper_are_two_ways(folder: Path, teacher: Teacher) -> None:
    deeper: dict[str, Any] = {"progressive": Progressive()}
    with pytest.raises(BadInput, match=r"warm_start=True with progressive distillation: .*one of"):
        toy(folder, teacher=teacher, objectives=[Memory(), retention(**deeper)], warm_start=True)
