"""The distillation task of sentence encoders, which match the teacher's vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import encoded, sequences, texts_of
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL, Loss, Targets, VectorCosine
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import Teacher

NEIGHBOURS = 10

FULL_RATE_DISTANCE = 0.3
"""For students of all-MiniLM-L6-v2 the best of three peak rates was
1e-4 at a distance of 0.06, 2e-4 at 0.13, and 5e-4 at 0.20 and 0.36."""


@dataclass(frozen=True)
class SentenceTask:
    """Sentence embedding; the quality is the mean cosine to the teacher's vectors.

    The figure ``neighbours`` is the share of the teacher's ten nearest neighbours that the student
    shares, which matters for vector search.
    """

    name: ClassVar[str] = "sentences"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (VectorCosine(),)

    @property
    def full_rate_distance(self) -> float:
        return FULL_RATE_DISTANCE

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one text, one row
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        ids = encoded(teacher, texts_of(examples, teacher), max_tokens)["input_ids"]
        return sequences(teacher, ids, None, [NO_LABEL] * len(ids))

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        return vocabulary_map.mapped(inputs), targets

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        vectors: Tensor = module(**batch.inputs)
        return vectors

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - no labels here
        return {"vector": answer}

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        return {"student": answer, "teacher": targets["vector"]}

    def score(self, scores: Scores) -> TaskScore:
        # in fp32 the cosine of equal vectors may exceed 1
        cosine = cosine_similarity(scores["student"].double(), scores["teacher"].double())
        kept = neighbours_kept(scores["student"], scores["teacher"])
        return TaskScore(
            value=float(cosine.mean()),
            spread=standard_error(cosine),
            figures={"cosine": float(cosine.mean()), "neighbours": kept},
            rows=cosine,
        )


def neighbours_kept(student: Tensor, teacher: Tensor) -> float:
    """Compute the share of the teacher's nearest neighbours by cosine that the student shares.

    Args:
        student: ``(texts, width)``.
        teacher: ``(texts, teacher width)``.
    """
    count = min(NEIGHBOURS, len(teacher) - 1)
    if count == 0:
        return 1.0  # a single text has no neighbours
    mine, theirs = _nearest(student, count), _nearest(teacher, count)
    shared = (mine[:, :, None] == theirs[:, None, :]).any(-1)
    return float(shared.double().mean())


def _nearest(vectors: Tensor, count: int) -> Tensor:
    unit = normalize(vectors, dim=-1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)
    return similarity.topk(count).indices
