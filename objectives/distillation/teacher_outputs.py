"""Teacher outputs, cached or computed at every step, and scoring of students against them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.machine.lock import shared_machine
from protege.spaces import Cache, Mismatch
from protege.spaces.files.block_file import rows
from protege.spaces.files.hashing import Key
from protege.spaces.models.sharing import is_sharded

BLOCK = 256
"""Sequences per block of the cache; a killed process loses at most one block."""

JUDGING_BATCH = 32
"""Sequences per batch without training; logits over a vocabulary must fit into memory."""

ASKED = "asked"
"""The column with the hash of each row's input sequence."""


class TeacherOutputs(Protocol):
    """A source of teacher outputs."""

    def to(self, batch: Batch) -> Targets:
        """Return the teacher outputs of a batch's rows."""


@dataclass(frozen=True)
class CachedOutputs:
    """Precomputed teacher outputs.

    Attributes:
        targets: The outputs of all rows.
        checks: The hash of each input sequence, ``(sequences,)``.
    """

    targets: Targets
    checks: Tensor

    @classmethod
    def of(cls, inputs: TaskInputs, targets: Targets) -> "CachedOutputs":
        """Return the outputs with the hashes of their inputs."""
        return cls(targets, inputs.checks)

    def to(self, batch: Batch) -> Targets:
        """Return the teacher outputs of a batch's rows.

        Raises:
            Mismatch: The outputs were computed from other inputs.
        """
        if not torch.equal(self.checks[batch.numbers], batch.checks):
            raise Mismatch(
                "the teacher's cached outputs were computed from other inputs than the batch's; "
                "remove the cache folder of the run, then run the same command again"
            )
        return {name: tensor[batch.rows] for name, tensor in self.targets.items()}


@dataclass(frozen=True)
class LiveOutputs:
    """A teacher that runs on every batch.

    Attributes:
        module: The teacher's module.
        task: The task.
        labels: The labels of all rows, ``(rows,)``.
    """

    module: nn.Module
    task: DistillationTask
    labels: Tensor

    @property
    def is_sharded(self) -> bool:
        """Whether accelerate has placed the teacher's layers, so that it must not be moved."""
        return any(map(is_sharded, self.module.modules()))

    def to(self, batch: Batch) -> Targets:
        """Run the teacher on a batch."""
        with torch.no_grad():
            answer = self.task.answer(self.module, batch)
        return self.task.targets(answer, self.labels[batch.rows].to(answer.device))


def cached_outputs(  # noqa: PLR0913, PLR0917 - each of them identifies or tells
    cache: Cache,
    key: Key,
    module: nn.Module,
    task: DistillationTask,
    inputs: TaskInputs,
    block_size: int = BLOCK,
    show: Callable[[str], None] = lambda _: None,
) -> Targets:
    """Return the teacher outputs of all rows from the cache; compute missing blocks.

    Args:
        cache: The cache.
        key: Identity of the teacher, the task and the inputs.
        module: The teacher's module.
        task: The task.
        inputs: The inputs.
        block_size: Sequences per block of the cache.
        show: Shows how much is done.

    Raises:
        Mismatch: The cached outputs were computed from other inputs.
        DiskFull: The disk is full.
    """
    edges = [*range(0, len(inputs), block_size), len(inputs)]
    starts = [int(inputs.row_starts[edge]) for edge in edges]

    def block(number: int) -> dict[str, Tensor]:
        show(f"caching teacher outputs {number / max(1, len(starts) - 1):.0%}")
        return _answered(module, task, inputs, (edges[number], edges[number + 1]))

    found = rows(cache, "targets", key, starts, block)
    if not torch.equal(found[ASKED], _by_row(inputs, inputs.checks)):
        raise Mismatch(
            f"{cache.folder}: the teacher's outputs were computed from other inputs; remove the "
            "folder"
        )
    return {name: tensor for name, tensor in found.items() if name != ASKED}


def compute_outputs(
    module: nn.Module, task: DistillationTask, inputs: TaskInputs, batch_size: int = JUDGING_BATCH
) -> Targets:
    """Compute the teacher outputs of all rows in memory."""
    found = _answered(module, task, inputs, (0, len(inputs)), batch_size)
    return {name: tensor for name, tensor in found.items() if name != ASKED}


def judge(
    module: nn.Module,
    task: DistillationTask,
    inputs: TaskInputs,
    targets: Targets,
    aligned: Callable[[Tensor], Tensor] = lambda answer: answer,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """Score a module on every row.

    Args:
        module: The module.
        task: The task.
        inputs: Its inputs.
        targets: The teacher's outputs.
        aligned: Maps the module's outputs to the teacher's order or space.
        labels: The true class or token of each row, ``(rows,)``; by default those of the inputs.

    Returns:
        Scores by name, each ``(rows, …)``.
    """
    module.eval()
    parts = []
    known = inputs.labels if labels is None else labels
    device = next((one.device for one in module.parameters()), torch.device("cpu"))
    for batch in inputs.in_order(JUDGING_BATCH):
        with shared_machine(), torch.inference_mode():
            answer = aligned(task.answer(module, batch.to(device)).cpu())
            theirs = {name: tensor[batch.rows] for name, tensor in targets.items()}
            found = task.scores(answer, theirs, known[batch.rows])
        parts.append((batch.rows, found))
    return _joined(parts)


def _answered(
    module: nn.Module,
    task: DistillationTask,
    inputs: TaskInputs,
    within: tuple[int, int],
    batch_size: int = JUDGING_BATCH,
) -> dict[str, Tensor]:
    """Compute the outputs of a range of sequences, with the hash of each row's input."""
    module.eval()
    parts = []
    for batch in inputs.in_order(batch_size, *within):
        with shared_machine(), torch.inference_mode():
            answer = task.answer(module, batch)
            found = task.targets(answer, inputs.labels[batch.rows])
        sizes = inputs.row_starts.diff()[batch.numbers]
        found[ASKED] = batch.checks.repeat_interleave(sizes)
        parts.append((batch.rows, found))
    return _joined(parts)


def _by_row(inputs: TaskInputs, values: Tensor) -> Tensor:
    return values.repeat_interleave(inputs.row_starts.diff())


def _joined(parts: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Concatenate the results of batches in the order of rows."""
    order = torch.cat([rows for rows, _ in parts]).argsort()
    names = parts[0][1]
    return {name: torch.cat([found[name] for _, found in parts])[order] for name in names}
