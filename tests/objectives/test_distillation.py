"""A short distillation teaches every kind of student, the same way each time."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from protege.objectives import Distillation
from protege.objectives.distillation.classes import NO_LABEL
from protege.objectives.distillation.distillation import remember
from protege.objectives.distillation.lesson import Targets
from protege.objectives.distillation.sequences import Sequences
from protege.objectives.retention import lesson_of
from protege.spaces import BadInput, ProtegeError, Student, Teacher
from tests.tiny import CASES, texts

SHORT = Distillation(steps=12, batch_size=16, learning_rate=3e-3, max_tokens=16)
Material = tuple[Sequences, Targets]


def material(teacher: Teacher) -> Material:
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(60), [NO_LABEL] * 60, SHORT.max_tokens)
    return sequences, remember(teacher.embedder() or teacher.model, lesson, sequences, 32)


def half(teacher: Teacher) -> Student:
    return teacher.student(teacher.architecture.scaled(layers=0.5, intermediate=0.5))


def taught(teacher: Teacher, given: Material, *, seed: int = 0) -> tuple[list[float], Student]:
    student = half(teacher)
    return SHORT.teach(student.module, lesson_of(teacher), *given, seed), student


def weights(student: Student) -> dict[str, Tensor]:
    return student.module.state_dict()


def test_every_kind_of_student_learns(teacher: Teacher) -> None:
    losses, student = taught(teacher, material(teacher))
    assert len(losses) == SHORT.steps
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert all(torch.isfinite(tensor).all() for tensor in weights(student).values())
    assert not student.module.training


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_a_seed_fixes_the_run(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    losses, student = taught(teacher, given)
    again, same = taught(teacher, given)
    assert again == losses
    assert all(torch.equal(weights(student)[n], weights(same)[n]) for n in weights(same))
    assert taught(teacher, given, seed=1)[0] != losses


def test_different_students_of_a_study_see_the_same_batches() -> None:
    teacher = CASES["bert-sentences"].teacher()
    sequences, targets = material(teacher)
    seen: list[list[Tensor]] = []
    for ratio in (0.25, 0.75):
        student = teacher.student(teacher.architecture.scaled(layers=ratio))
        ids: list[Tensor] = []
        student.model.get_input_embeddings().register_forward_pre_hook(
            lambda _module, inputs, ids=ids: ids.append(inputs[0])
        )
        SHORT.teach(student.module, lesson_of(teacher), sequences, targets, 0)
        seen.append(ids)
    assert len(seen[0]) == SHORT.steps
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_teaching_a_student_leaves_its_teacher_as_it_was(teacher: Teacher) -> None:
    before = deepcopy(teacher.model.state_dict())
    taught(teacher, material(teacher))
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_tied_weights_stay_tied() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    _, student = taught(teacher, material(teacher))
    names = ("model.embed_tokens.weight", "lm_head.weight")
    inputs, outputs = (student.model.state_dict()[name] for name in names)
    assert inputs.data_ptr() == outputs.data_ptr()


def test_a_run_that_diverges_says_at_which_step_and_what_to_lower() -> None:
    teacher = CASES["bert-texts"].teacher()
    student = half(teacher)
    wild = Distillation(steps=9, batch_size=8, learning_rate=1e30, warmup=0, max_tokens=16)
    message = r"diverged at step \d of 9 \(loss (nan|inf)\); lower learning_rate=1e\+30"
    with pytest.raises(ProtegeError, match=message):
        wild.teach(student.module, lesson_of(teacher), *material(teacher), seed=0)


def test_each_step_is_announced() -> None:
    teacher = CASES["bert-texts"].teacher()
    told: list[str] = []
    lesson = lesson_of(teacher)
    SHORT.teach(half(teacher).module, lesson, *material(teacher), 0, told.append)
    assert told == [f"distil {step}/12" for step in range(1, 13)]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 200])
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(steps: int, warmup: float) -> None:
    paces = [Distillation(steps=steps, warmup=warmup)._pace(step) for step in range(steps)]
    assert all(0 < pace <= 1 for pace in paces)
    assert max(paces) == 1
    peak = paces.index(1)
    assert paces[: peak + 1] == sorted(paces[: peak + 1])
    assert paces[peak:] == sorted(paces[peak:], reverse=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"steps": 1.5},
        {"batch_size": 0},
        {"max_tokens": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 1.1},
        {"warmup": -0.1},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(BadInput, match=rf"{name}={settings[name]!r}.*: expected a"):
        Distillation(**settings)
