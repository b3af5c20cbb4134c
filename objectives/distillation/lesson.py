"""What a teacher teaches and how an answer is judged; one implementation for each kind of task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from protege.objectives.distillation.sequences import Batch, Sequences
from protege.objectives.distillation.spelling import Spelling
from protege.spaces import Teacher

Targets = Mapping[str, Tensor]
"""The teacher's answers by name, each tensor one row an answer."""

Scores = Mapping[str, Tensor]
"""What a student's answers are worth, each tensor one row an answer."""


@dataclass(frozen=True)
class Verdict:
    """What a student retains of its teacher.

    Attributes:
        value: Its quality divided by the teacher's.
        spread: Standard error of the value over the held-out data.
        figures: The figures behind it, by name.
    """

    value: float
    spread: float
    figures: dict[str, float]


def standard_error(values: Tensor) -> float:
    """The standard error of the mean; 0 for a single value, which tells nothing of its spread."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0


class Lesson(Protocol):
    """A kind of task: what is asked, remembered of the teacher, learnt, and judged."""

    @property
    def name(self) -> str:
        """What its cached targets are named by; changes whenever they would."""

    def sequences(
        self, teacher: Teacher, texts: Sequence[str], labels: Sequence[int], max_tokens: int
    ) -> Sequences:
        """The texts as token sequences of at most that length, with the rows to answer."""

    def respelt(
        self, sequences: Sequences, targets: Targets, spelling: Spelling
    ) -> tuple[Sequences, Targets]:
        """The same questions, and the teacher's answers, for a student with fewer tokens."""

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        """The module's answers to the batch's rows, ``(rows, width)``."""

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What is kept of the teacher's answers."""

    def loss(self, answer: Tensor, targets: Targets) -> Tensor:
        """How far the answers are from the teacher's; a scalar to minimise."""

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        """What each answer is worth; small enough to be kept for all rows."""

    def verdict(self, scores: Scores) -> Verdict:
        """What the scores of all held-out rows say of the student."""
