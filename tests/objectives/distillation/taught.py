"""Students taught in a few steps, for the tests of what teaching is made of."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from protege.objectives import Distillation, Example, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.teacher_outputs import (
    CachedOutputs,
    TeacherOutputs,
    compute_outputs,
)
from protege.objectives.distillation.training import Training
from protege.spaces import Student, Teacher
from tests.tiny import texts

SHORT = Distillation(Texts.of(texts(60)), 12, 16, learning_rate=3e-3, max_tokens=16)

Material = tuple[TaskInputs, Targets]
"""What is asked, and what the teacher answers."""


def asked(teacher: Teacher, given: list[str] | None = None, max_tokens: int = 16) -> TaskInputs:
    """What the teacher's students are asked of texts without labels."""
    examples = [Example(text) for text in given or texts(60)]
    return distillation_task(teacher).inputs(teacher, examples, max_tokens)


def module_of(teacher: Teacher) -> nn.Module:
    """What of the teacher is asked."""
    return teacher.embedder() or teacher.model


def material(teacher: Teacher) -> Material:
    """Sixty texts, and the teacher's answers in memory."""
    inputs = asked(teacher)
    return inputs, compute_outputs(module_of(teacher), distillation_task(teacher), inputs)


def half(teacher: Teacher) -> Student:
    """A student of half the depth and half the feed-forward width."""
    return teacher.student(teacher.architecture.scaled(layers=0.5, intermediate=0.5))


def training(
    teacher: Teacher,
    given: Material,
    settings: Distillation = SHORT,
    student: Student | None = None,
    **changes: Any,
) -> Training:
    """A student, half of its teacher unless another is given, ready to be taught."""
    inputs, targets = given
    answers: TeacherOutputs = CachedOutputs.of(inputs, targets)
    made: dict[str, Any] = {
        "settings": settings,
        "student": student or half(teacher),
        "task": settings.tuned(distillation_task(teacher)),
        "inputs": inputs,
        "answers": answers,
        "teacher": teacher,
    }
    return Training(**(made | changes))


def finished(found: Training, *stops: int) -> Training:
    """The training run to its end, halting where it is told to."""
    assert list(found.run([*stops, found.settings.steps])) == [*stops, found.settings.steps]
    return found


def taught(
    teacher: Teacher, given: Material, settings: Distillation = SHORT, **changes: Any
) -> Training:
    """A student that was taught without a halt."""
    return finished(training(teacher, given, settings, **changes))


def weights(student: Student) -> dict[str, Tensor]:
    """The student's tensors by name."""
    found: dict[str, Tensor] = student.module.state_dict()
    return found


def noted() -> tuple[list[str], Callable[[str], None]]:
    """What is announced, and whom to announce it to."""
    told: list[str] = []
    return told, told.append
