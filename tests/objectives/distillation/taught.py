"""Students taught in a few steps, for the tests of what teaching is made of."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from protege.objectives import Distillation, Example
from protege.objectives.distillation.lesson import Targets
from protege.objectives.distillation.questions import Questions
from protege.objectives.distillation.remembering import Answers, Remembered, remember
from protege.objectives.distillation.training import Training
from protege.objectives.retention import lesson_of
from protege.spaces import Student, Teacher
from tests.tiny import texts

SHORT = Distillation(steps=12, batch_size=16, learning_rate=3e-3, max_tokens=16)

Material = tuple[Questions, Targets]
"""What is asked, and what the teacher answers."""


def asked(teacher: Teacher, given: list[str] | None = None, max_tokens: int = 16) -> Questions:
    """What the teacher's students are asked of texts without labels."""
    examples = [Example(text) for text in given or texts(60)]
    return lesson_of(teacher).questions(teacher, examples, max_tokens)


def module_of(teacher: Teacher) -> nn.Module:
    """What of the teacher is asked."""
    return teacher.embedder() or teacher.model


def material(teacher: Teacher) -> Material:
    """Sixty texts, and the teacher's answers in memory."""
    questions = asked(teacher)
    return questions, remember(module_of(teacher), lesson_of(teacher), questions)


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
    questions, targets = given
    answers: Answers = Remembered.of(questions, targets)
    made: dict[str, Any] = {
        "settings": settings,
        "student": student or half(teacher),
        "lesson": settings.tuned(lesson_of(teacher)),
        "questions": questions,
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
