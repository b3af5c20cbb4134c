"""The protocols of distillation tasks and of losses on their outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import Loss, Targets
from protege.spaces import Teacher

Scores = Mapping[str, Tensor]
"""The scores of a student's outputs by name, each ``(rows, …)``."""


@dataclass(frozen=True)
class TaskScore:
    """A student's score relative to its teacher.

    Attributes:
        value: The student's quality divided by the teacher's.
        spread: Standard error of the value.
        figures: The underlying figures by name.
        rows: Score of each row, higher is better, ``(rows,)``.
        of_mean: Converts a mean of `rows` to a value.
    """

    value: float
    spread: float
    figures: dict[str, float]
    rows: Tensor
    of_mean: Callable[[float], float] = lambda mean: mean


def by_agreement(scores: Scores, measure: str) -> TaskScore:
    """Return the score by labels relative to the teacher's, or without labels the agreement.

    Args:
        scores: For each row ``agrees``, the agreement with the teacher, and ``right`` and
            ``teacher_right``, the agreement with the label, NaN if unknown; all from 0 to 1.
        measure: Name of the agreement with the label.
    """
    agrees, right = scores["agrees"], scores["right"]
    agreement = float(agrees.mean())
    known = ~right.isnan()
    if not bool(known.any()):
        return TaskScore(agreement, standard_error(agrees), {"agreement": agreement}, agrees)
    own, best = float(right[known].mean()), float(scores["teacher_right"][known].mean())
    # a paired standard error: leaves out the difficulty of examples that both share
    differ = right - scores["teacher_right"] * (own / best if best else 0)
    return TaskScore(
        value=own / best if best else 0.0,
        spread=standard_error(differ[known]) / best if best else 0.0,
        figures={measure: own, f"teacher_{measure}": best, "agreement": agreement},
        rows=right.nan_to_num(own),
        of_mean=lambda mean: mean / best if best else 0.0,
    )


def standard_error(values: Tensor) -> float:
    """Compute the standard error of the mean; 0 for a single value."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


class DistillationTask(Protocol):
    """A kind of task: how inputs are made, the teacher's outputs stored, and students scored."""

    @property
    def name(self) -> str:
        """Cache key of the teacher outputs; must change whenever `targets` changes."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The default losses."""

    @property
    def full_rate_distance(self) -> float:
        """The default of `Distillation.full_rate_at`, found by measurement."""

    def size(self, example: Example, max_tokens: int) -> float:
        """Estimate the number of sequences that an example yields."""

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        """Convert examples to sequences of at most `max_tokens` tokens.

        Raises:
            BadInput: The content or the label of an example does not fit the task.
        """

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        """Map inputs and teacher outputs to a student's cut vocabulary."""

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        """Run a module on a batch and return its outputs, ``(rows, width)``."""

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Reduce the teacher's outputs to what losses and scores need."""

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        """Score each row; the result must be small enough to hold for all rows."""

    def score(self, scores: Scores) -> TaskScore:
        """Aggregate the scores of all rows."""
