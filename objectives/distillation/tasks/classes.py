"""The distillation task of classifiers, which match the teacher's logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.pictures import images
from protege.objectives.distillation.inputs.sequences import text_rows
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL, LogitsMSE, Loss, Targets
from protege.objectives.distillation.tasks.labels import Classes, check_known
from protege.objectives.distillation.tasks.task import Scores, TaskScore, by_agreement
from protege.spaces import Teacher

FULL_RATE_DISTANCE = 0.3
"""As for sentence vectors: both losses are relative squared errors."""


@dataclass(frozen=True)
class ClassTask:
    """Classification of texts, pairs of texts or images, with one class for each.

    The quality is accuracy with labels, and agreement with the teacher without.

    Attributes:
        images: Whether the teacher reads images instead of texts.
    """

    images: bool = False

    @property
    def name(self) -> str:
        return "image-classes" if self.images else "text-classes"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (LogitsMSE(),)

    @property
    def full_rate_distance(self) -> float:
        return FULL_RATE_DISTANCE

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one text, one row
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        labels = self.labels(teacher, examples)
        if self.images:
            return images(teacher, examples, labels)
        return text_rows(teacher, examples, max_tokens, labels)

    def labels(self, teacher: Teacher, examples: Sequence[Example]) -> Sequence[Any]:
        """Return the label of each example as the model counts; see `TaskInputs.labels`.

        Raises:
            BadInput: The teacher has no such class.
        """
        classes = Classes(teacher)
        return [classes.number(example.label) for example in examples]

    def check_labels(
        self, targets: Targets, labels: Tensor, names: Sequence[str], teacher: Teacher
    ) -> None:
        """Check that the teacher predicts the labels, if there are any.

        Args:
            targets: The teacher's outputs.
            labels: The label of each row.
            names: The data set's class names, in the order of its numbers; empty if unknown.
            teacher: The teacher.

        Raises:
            BadInput: The teacher is no better than chance.
        """
        check_known(targets["logits"].argmax(-1), labels, names, teacher)

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        return vocabulary_map.mapped(inputs), targets

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = module(**batch.inputs).logits
        return logits

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - no labels here
        return {"logits": answer}

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        mine, theirs = answer.argmax(-1), targets["logits"].argmax(-1)
        known = labels != NO_LABEL
        return {
            "agrees": (mine == theirs).double(),
            "right": torch.where(known, (mine == labels).double(), torch.nan),
            "teacher_right": torch.where(known, (theirs == labels).double(), torch.nan),
        }

    def score(self, scores: Scores) -> TaskScore:
        return by_agreement(scores, "accuracy")
