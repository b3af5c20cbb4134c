"""The protocols of distillation tasks and of losses on their outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.questions import Batch, Questions
from protege.objectives.distillation.spelling import Spelling
from protege.spaces import Teacher

Targets = Mapping[str, Tensor]
"""The teacher's outputs by name, each ``(rows, …)``."""

Scores = Mapping[str, Tensor]
"""The scores of a student's outputs by name, each ``(rows, …)``."""


class Loss(Protocol):
    """A loss on the student's outputs.

    Losses on hidden states or attention are `protege.objectives.distillation.inside.Inside`.
    """

    @property
    def weight(self) -> float:
        """Weight in the sum of all terms."""

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        """Compute the mean loss over rows, a scalar.

        Args:
            answer: The student's outputs, ``(rows, width)``.
            targets: The teacher's outputs.
            labels: The true class of each row, ``(rows,)``; -100 if unknown.
        """


@dataclass(frozen=True)
class Verdict:
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


def standard_error(values: Tensor) -> float:
    """Compute the standard error of the mean; 0 for a single value."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


class Lesson(Protocol):
    """A kind of task: how inputs are made, the teacher's outputs stored, and students scored."""

    @property
    def name(self) -> str:
        """Cache key of the teacher outputs; must change whenever `targets` changes."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The default losses."""

    @property
    def far(self) -> float:
        """The default of `Distillation.full_rate_at`, found by measurement."""

    def size(self, example: Example, max_tokens: int) -> float:
        """Estimate the number of sequences that an example yields."""

    def questions(
        self, teacher: Teacher, examples: Sequence[Example], max_tokens: int
    ) -> Questions:
        """Convert examples to sequences of at most `max_tokens` tokens.

        Raises:
            BadInput: The content or the label of an example does not fit the task.
        """

    def respelt(
        self, questions: Questions, targets: Targets, spelling: Spelling
    ) -> tuple[Questions, Targets]:
        """Map inputs and teacher outputs to a student's cut vocabulary."""

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        """Run a module on a batch and return its outputs, ``(rows, width)``."""

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Reduce the teacher's outputs to what losses and scores need."""

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        """Score each row; the result must be small enough to hold for all rows."""

    def verdict(self, scores: Scores) -> Verdict:
        """Aggregate the scores of all rows."""
