"""What a teacher teaches and how an answer is judged; one implementation for each kind of task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.questions import Batch, Questions
from protege.objectives.distillation.spelling import Spelling
from protege.spaces import Teacher

Targets = Mapping[str, Tensor]
"""The teacher's answers by name, each tensor one row an answer."""

Scores = Mapping[str, Tensor]
"""What a student's answers are worth, each tensor one row an answer."""


class Loss(Protocol):
    """One term of what a student minimises, told from its answers.

    Those that need more than answers are `protege.objectives.distillation.inside.Inside`.
    """

    @property
    def weight(self) -> float:
        """What it counts in the sum of all terms."""

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        """The loss of these answers, a scalar: the mean over rows.

        Args:
            answer: The student's, ``(rows, width)``.
            targets: The teacher's.
            labels: The true class of each row, -100 where there is none; ``(rows,)``.
        """


@dataclass(frozen=True)
class Verdict:
    """What a student retains of its teacher.

    Attributes:
        value: Its quality divided by the teacher's.
        spread: Standard error of the value over the held-out data.
        figures: The figures behind it, by name.
        rows: What each answer is worth, more is better, ``(rows,)``.
        of_mean: The value of a student whose rows are worth so much in the mean.
    """

    value: float
    spread: float
    figures: dict[str, float]
    rows: Tensor
    of_mean: Callable[[float], float] = lambda mean: mean


def standard_error(values: Tensor) -> float:
    """The standard error of the mean; 0 for a single value, which tells nothing of its spread."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


class Lesson(Protocol):
    """A kind of task: what is asked, remembered of the teacher, learnt, and judged."""

    @property
    def name(self) -> str:
        """What its cached targets are named by; changes whenever they would."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What is minimised where nobody says otherwise."""

    @property
    def far(self) -> float:
        """The distance from its teacher at which a student gets the whole learning rate.

        A share of the loss of a student whose answers are all zero; measured, see
        `Distillation.full_rate_at`.
        """

    def size(self, example: Example, max_tokens: int) -> float:
        """How many sequences an example makes, about."""

    def questions(
        self, teacher: Teacher, examples: Sequence[Example], max_tokens: int
    ) -> Questions:
        """The examples as sequences of at most that length, with the rows to answer.

        Raises:
            BadInput: An example is not what the task is asked with, or its label is none.
        """

    def respelt(
        self, questions: Questions, targets: Targets, spelling: Spelling
    ) -> tuple[Questions, Targets]:
        """The same questions, and the teacher's answers, for a student with fewer tokens."""

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        """The module's answers to the batch's rows, ``(rows, width)``."""

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What is kept of the teacher's answers."""

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        """What each answer is worth; small enough to be kept for all rows."""

    def verdict(self, scores: Scores) -> Verdict:
        """What the scores of all held-out rows say of the student."""
