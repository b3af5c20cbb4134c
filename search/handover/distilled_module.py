"""A student and its distillation loss as one module, which any training loop can run."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from math import ceil
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, Dataset

from protege.objectives.distillation.batch_norms import train_batch_norms
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.mixed_precision import autocast
from protege.objectives.distillation.teacher_outputs import LiveOutputs
from protege.objectives.distillation.training import Training


class DistilledModule(nn.Module):
    """A student that computes its distillation loss in its forward pass.

    So gradients are averaged over processes whatever the loss is made of, and projections of
    losses on hidden states are trained along.

    Args:
        training: Student, task, losses and teacher outputs.
        stack: Removes the hooks of losses on hidden states when it closes.
    """

    def __init__(self, training: Training, stack: ExitStack) -> None:
        super().__init__()
        self.training_of = training
        self.student = training.student.module
        self._watches = training.attached(stack)
        along = [one for _, watch in self._watches for one in watch.parameters()]
        self.along = nn.ParameterList(along)
        # fully sharded training wraps whole layers; these are their classes
        self._no_split_modules = getattr(training.student.model, "_no_split_modules", None)
        self._keys_to_ignore_on_save = sorted(self._tied())

    def forward(  # noqa: PLR0913, PLR0917 - the fields of a batch
        self,
        inputs: Mapping[str, Tensor],
        scored: Tensor,
        rows: Tensor,
        numbers: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor,
        num_items_in_batch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the mean loss over the rows of a batch.

        Args:
            inputs: Arguments of the student's forward.
            scored: See `Batch`.
            rows: See `Batch`.
            numbers: See `Batch`.
            targets: The teacher's outputs, ``(rows, …)`` each; empty if the teacher runs here.
            labels: One entry per row, by which the trainer counts rows.
            num_items_in_batch: Rows of the whole step, over all processes and accumulated
                batches; then the loss is the sum over rows divided by it.
        """
        own, device = self.training_of, scored.device
        if self.training:
            train_batch_norms(self.student, len(rows))
        batch = Batch(inputs, scored, rows.cpu(), numbers.cpu())
        with autocast(own.settings.precision, device):
            known = targets or own.targets(batch)
            answer = own.task.answer(self.student, batch)
        loss = own.loss(answer.float(), known, batch)
        for weight, watch in self._watches:
            loss = loss + weight * watch.loss(batch.mask)
        if num_items_in_batch is not None:
            loss = loss * (len(labels) / num_items_in_batch)
        return {"loss": loss}

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Keep the student without dropout, as the search does: its targets are exact.

        Batch norms collect the statistics of what they read. Only layers whose activations are
        computed again are marked, which transformers asks for.
        """
        super().train(mode=False)
        self.training = mode
        for one in self.modules():
            if getattr(one, "gradient_checkpointing", False):
                one.training = mode
        return self

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """Return the state with each tied tensor once: safetensors refuses shared memory."""
        state = super().state_dict(*args, **options)
        for name in self._tied():
            state.pop(name, None)
        return state

    def tie_weights(self) -> None:
        """Do nothing: a loaded state is copied into tensors that stay tied."""

    def _tied(self) -> set[str]:
        every = dict(self.named_parameters(remove_duplicate=False))
        return every.keys() - dict(self.named_parameters()).keys()


class SequenceNumbers(Dataset[int]):
    """The indices of all sequences."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> int:
        return number


class EpochBatches(BatchSampler):
    """The batches of one process in each epoch, in the order of the search's own training.

    Consecutive batches form one step: that of all processes and accumulated batches together.

    Args:
        inputs: The sequences.
        step_size: Sequences per step.
        parts: Batches per step.
        seed: Seed of the order.
    """

    def __init__(self, inputs: TaskInputs, step_size: int, parts: int, seed: int) -> None:
        self.batch_size = step_size // parts
        self.drop_last = False
        self._inputs, self._step_size, self._seed, self._epoch = inputs, step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch whose order the next iteration has."""
        self._epoch = epoch

    def __len__(self) -> int:
        return ceil(len(self._inputs) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self._seed, self._epoch))
        order = [
            number
            for batch in self._inputs.epoch(self._step_size, generator)
            for number in batch.tolist()
        ]
        for begin in range(0, len(order), self.batch_size):
            yield order[begin : begin + self.batch_size]


def collate(training: Training, numbers: list[int]) -> dict[str, Any]:
    """Return the arguments of `DistilledModule` for a batch."""
    batch = training.inputs.batch(numbers)
    lives = isinstance(training.answers, LiveOutputs)
    return {
        "inputs": dict(batch.inputs),
        "scored": batch.scored,
        "rows": batch.rows,
        "numbers": batch.numbers,
        "targets": {} if lives else dict(training.targets(batch)),
        "labels": torch.zeros(len(batch.rows), dtype=torch.long),
    }
