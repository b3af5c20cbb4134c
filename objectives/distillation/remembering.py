"""The teacher's answers: asked once and kept, or asked anew at every step."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from protege.objectives.distillation.lesson import Lesson, Targets
from protege.objectives.distillation.questions import Batch, Questions
from protege.objectives.lease import working
from protege.spaces import Cache, Mismatch
from protege.spaces.files.block_file import rows
from protege.spaces.files.hashing import Key
from protege.spaces.models.placement import is_sharded

BLOCK = 256
"""Sequences whose answers are written at a time; what a process that is killed loses at most."""

JUDGING_BATCH = 32
"""Sequences at a time where nothing is trained; small enough for a vocabulary's logits to fit."""

ASKED = "asked"
"""The column that holds, for each row, the hash of the sequence that was asked."""


class Answers(Protocol):
    """Where the teacher's answers to a batch come from."""

    def to(self, batch: Batch) -> Targets:
        """The teacher's answers to the rows of a batch."""


@dataclass(frozen=True)
class Remembered:
    """Answers that were computed before.

    Attributes:
        targets: The answers to all rows.
        checks: The hash of each sequence that they are answers to.
    """

    targets: Targets
    checks: Tensor

    @classmethod
    def of(cls, questions: Questions, targets: Targets) -> "Remembered":
        """The answers to these questions."""
        return cls(targets, questions.checks)

    def to(self, batch: Batch) -> Targets:
        """The answers to the rows of a batch.

        Raises:
            Mismatch: They were given to other inputs: what is taught would be nonsense.
        """
        if not torch.equal(self.checks[batch.numbers], batch.checks):
            raise Mismatch(
                "the teacher's cached answers are to other inputs than the batch has; "
                "remove the cache folder of the run, then run the same line again"
            )
        return {name: tensor[batch.rows] for name, tensor in self.targets.items()}


@dataclass(frozen=True)
class Online:
    """A teacher that answers when it is asked; nothing is kept.

    Attributes:
        module: The teacher.
        lesson: What it is asked.
        labels: Of all rows.
    """

    module: nn.Module
    lesson: Lesson
    labels: Tensor

    @property
    def is_sharded(self) -> bool:
        """Whether accelerate has placed the teacher, which nobody else moves then."""
        return any(map(is_sharded, self.module.modules()))

    def to(self, batch: Batch) -> Targets:
        """The teacher's answers to the rows of a batch."""
        with torch.no_grad():
            answer = self.lesson.answer(self.module, batch)
        return self.lesson.targets(answer, self.labels[batch.rows].to(answer.device))


def remembered(
    cache: Cache, key: Key, module: nn.Module, lesson: Lesson, asked: Questions
) -> Targets:
    """The teacher's answers to all rows, from the cache; computed block by block where missing.

    Raises:
        Mismatch: What is kept was asked with other inputs.
        DiskFull: There is no room for them.
    """
    edges = [*range(0, len(asked), BLOCK), len(asked)]
    starts = [int(asked.row_starts[edge]) for edge in edges]

    def block(number: int) -> dict[str, Tensor]:
        return _answered(module, lesson, asked, edges[number], edges[number + 1])

    found = rows(cache, "targets", key, starts, block)
    if not torch.equal(found[ASKED], _by_row(asked, asked.checks)):
        raise Mismatch(
            f"{cache.folder}: the teacher's answers there are to other inputs; remove the folder"
        )
    return {name: tensor for name, tensor in found.items() if name != ASKED}


def remember(module: nn.Module, lesson: Lesson, questions: Questions) -> Targets:
    """The teacher's answers to all rows, in memory."""
    found = _answered(module, lesson, questions, 0, len(questions))
    return {name: tensor for name, tensor in found.items() if name != ASKED}


def judge(
    module: nn.Module, lesson: Lesson, questions: Questions, targets: Targets
) -> dict[str, Tensor]:
    """The scores of the module's answers to every row of the questions."""
    module.eval()
    parts = []
    for batch in questions.in_order(JUDGING_BATCH):
        with working(), torch.inference_mode():
            answer = lesson.answer(module, batch)
            theirs = {name: tensor[batch.rows] for name, tensor in targets.items()}
            found = lesson.scores(answer, theirs, questions.labels[batch.rows])
        parts.append((batch.rows, found))
    return _joined(parts)


def _answered(
    module: nn.Module, lesson: Lesson, asked: Questions, begin: int, end: int
) -> dict[str, Tensor]:
    """The answers to sequences from begin to end, with the hash of what was asked."""
    module.eval()
    parts = []
    for batch in asked.in_order(JUDGING_BATCH, begin, end):
        with working(), torch.inference_mode():
            answer = lesson.answer(module, batch)
            found = lesson.targets(answer, asked.labels[batch.rows])
        sizes = asked.row_starts.diff()[batch.numbers]
        found[ASKED] = batch.checks.repeat_interleave(sizes)
        parts.append((batch.rows, found))
    return _joined(parts)


def _by_row(questions: Questions, values: Tensor) -> Tensor:
    return values.repeat_interleave(questions.row_starts.diff())


def _joined(parts: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Batches put back into the order of the rows."""
    order = torch.cat([rows for rows, _ in parts]).argsort()
    names = parts[0][1]
    return {name: torch.cat([found[name] for _, found in parts])[order] for name in names}
