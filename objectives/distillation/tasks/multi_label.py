"""The distillation task of multi-label classifiers, which predict several classes at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.distillation.losses.losses import NO_LABEL, BinaryKL, Loss, Targets
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import Classes, check_known
from protege.objectives.distillation.tasks.task import Scores, TaskScore, by_agreement
from protege.spaces import BadInput, Teacher


@dataclass(frozen=True)
class MultiLabelTask(ClassTask):
    """Classification of texts or images, to which any number of classes applies.

    A class applies if its probability is above one half. The agreement of two sets of classes is
    their F1: twice the classes in both over the sum of their sizes, 1 if both are empty. The
    quality is the mean F1 with the labels divided by the teacher's, and without labels that with
    the teacher's own classes.
    """

    @property
    def name(self) -> str:
        return "image-labels" if self.images else "text-labels"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (BinaryKL(),)

    def labels(self, teacher: Teacher, examples: Sequence[Example]) -> Sequence[Any]:
        classes, count = Classes(teacher), int(teacher.config.num_labels or 0)
        return [_indicators(classes, example, count) for example in examples]

    def check_labels(
        self, targets: Targets, labels: Tensor, names: Sequence[str], teacher: Teacher
    ) -> None:
        decided = (targets["logits"] > 0).long()
        names = names or list(Classes(teacher).named)
        check_known(decided.flatten(), labels.flatten(), names, teacher)

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        mine, theirs = answer > 0, targets["logits"] > 0
        known = (labels != NO_LABEL).all(-1)
        return {
            "agrees": _f1(mine, theirs),
            "right": torch.where(known, _f1(mine, labels == 1), torch.nan),
            "teacher_right": torch.where(known, _f1(theirs, labels == 1), torch.nan),
        }

    def score(self, scores: Scores) -> TaskScore:
        return by_agreement(scores, "f1")


def _f1(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the F1 of the sets of each row, both ``(rows, classes)``; 1 for two empty ones."""
    both, sizes = (found & wanted).sum(-1), found.sum(-1) + wanted.sum(-1)
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).double()


def _indicators(classes: Classes, example: Example, count: int) -> list[int]:
    """Return 1 for each class that applies and 0 for the others; -100 for each without a label.

    Raises:
        BadInput: The teacher has no such class, or a class is named twice.
    """
    label = example.label
    if label is None:
        return [NO_LABEL] * count
    given = label if isinstance(label, tuple) else (label,)
    if len(given) == count and all(isinstance(one, float) for one in given):
        return [int(float(one) > 0.5) for one in given]
    numbers = [classes.number(one) for one in given]
    if len(set(numbers)) < len(numbers):
        raise BadInput(
            f"label {label!r:.60}: names a class twice; give the classes that apply, or a float of "
            "0.0 or 1.0 for each class"
        )
    return [int(number in numbers) for number in range(count)]
