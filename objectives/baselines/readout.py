"""The readout of a student of another family: its last linear layer, fitted before training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.baselines.alignment import alignment
from protege.objectives.distillation.batch_norms import batch_norms, settling
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.machine.lock import shared_machine
from protege.spaces import Student

FITTED_ON = 1024
"""Maximum number of training examples that a readout is fitted on."""

JUDGING_BATCH = 32

OUTPUTS = ("vector", "logits")
"""Names of the teacher's outputs that a readout can be fitted to, with one row per example."""


def fit_readout(
    student: Student, task: DistillationTask, inputs: TaskInputs, targets: Targets
) -> None:
    """Fit the last linear layer of a student to its teacher's outputs, in place.

    The rest of the student is drawn at random, and a random network with a fitted readout is a far
    better start than a random readout. It is a ridge regression (see `alignment`). Models without a
    last linear layer, and tasks with several rows per example, stay as they are.

    Args:
        student: The student.
        task: The task.
        inputs: Its inputs, one row each.
        targets: The teacher's outputs.
    """
    wanted = next((targets[name] for name in OUTPUTS if name in targets), None)
    last = None if wanted is None else readout_of(student, wanted.shape[-1])
    if last is None or wanted is None or len(wanted) != len(inputs):
        return
    with shared_machine(), torch.no_grad():
        if batch_norms(student.module):
            with settling(student.module):
                for batch in inputs.in_order(JUDGING_BATCH):
                    if len(batch.rows) > 1:  # one row has no variance
                        task.answer(student.module, batch)
        with _inputs_of(last) as seen:
            places = []
            for batch in inputs.in_order(JUDGING_BATCH):
                task.answer(student.module, batch)
                places.append(batch.rows)
    if any(one.ndim != 2 for one in seen):
        return
    found = alignment(torch.cat(seen), wanted[torch.cat(places)].float())
    with torch.no_grad():
        last.weight.copy_(found["weight"])
        if last.bias is not None:
            last.bias.copy_(found["bias"])


def readout_of(student: Student, outputs: int) -> nn.Linear | None:
    """Return the last linear layer of a student, with a number of outputs; None without one."""
    if student.embedder is not None:
        return student.embedder.projection
    linear = [one for one in student.model.modules() if isinstance(one, nn.Linear)]
    fitting = [one for one in linear if one.out_features == outputs]
    return fitting[-1] if fitting else None


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module reads in the block."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0].detach().clone())

    hook = module.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()
