"""The distillation task of classifiers, which match the teacher's logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import encoded, sequences, texts_of
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL, LogitsMSE, Loss, Targets
from protege.objectives.distillation.tasks.labels import Classes
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import Teacher

FULL_RATE_DISTANCE = 0.3
"""As for sentence vectors: both losses are relative squared errors."""


@dataclass(frozen=True)
class ClassTask:
    """Text classification.

    The quality is accuracy with labels, and agreement with the teacher without.
    """

    @property
    def name(self) -> str:
        return "text-classes"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (LogitsMSE(),)

    @property
    def full_rate_distance(self) -> float:
        return FULL_RATE_DISTANCE

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one text, one row
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        classes, texts = Classes(teacher), texts_of(examples, teacher)
        ids = encoded(teacher, texts, max_tokens)["input_ids"]
        labels = [classes.number(example.label) for example in examples]
        return sequences(teacher, ids, None, labels)

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
        agrees, right = scores["agrees"], scores["right"]
        agreement = float(agrees.mean())
        known = ~right.isnan()
        if not bool(known.any()):
            return TaskScore(agreement, standard_error(agrees), {"agreement": agreement}, agrees)
        accuracy, best = float(right[known].mean()), float(scores["teacher_right"][known].mean())
        # a paired standard error: leaves out the difficulty of texts that both share
        differ = right - scores["teacher_right"] * (accuracy / best if best else 0)
        return TaskScore(
            value=accuracy / best if best else 0.0,
            spread=standard_error(differ[known]) / best if best else 0.0,
            figures={"accuracy": accuracy, "teacher_accuracy": best, "agreement": agreement},
            rows=right.nan_to_num(accuracy),
            of_mean=lambda mean: mean / best if best else 0.0,
        )
