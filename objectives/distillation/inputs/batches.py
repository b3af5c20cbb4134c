"""Model inputs for teacher and students, and the batches made from them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from torch import Tensor

STRETCH = 50
"""Batches of a shuffled epoch to sort by length together."""

_ASKED = {
    "input_ids": "attention_mask",
    "decoder_input_ids": "decoder_attention_mask",
    "pixel_values": "",
    "input_features": "",
}
"""Model inputs and the names of their masks; images and recordings have none."""

Numbers = NDArray[np.int64]
"""Indices of sequences."""

_FACTOR = 6364136223846793005
"""Multiplier of Knuth's MMIX generator; odd, so that its powers never vanish modulo 2**64."""


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        inputs: Arguments of the model's forward by name; the first dimension is the batch.
        scored: Positions whose outputs are rows, in row-major order, ``(sequences, tokens)``, of
            the decoder if there is one; all false if each sequence is one row.
        rows: Indices of the batch's rows, ``(rows,)``.
        numbers: Indices of the batch's sequences, ``(sequences,)``.
    """

    inputs: Mapping[str, Tensor]
    scored: Tensor
    rows: Tensor
    numbers: Tensor

    @property
    def mask(self) -> Tensor:
        """The attention mask, ``(sequences, tokens)``; ones, ``(rows, 1)``, without tokens."""
        mask = self.inputs.get("attention_mask")
        return torch.ones(len(self.numbers), 1) if mask is None else mask

    @property
    def checks(self) -> Tensor:
        """A hash of each sequence's inputs without padding, ``(sequences,)``."""
        total = torch.zeros(len(self.numbers), dtype=torch.long)
        for name, mask in _ASKED.items():
            if name in self.inputs:
                real = self.inputs.get(mask)
                found = _hashed(self.inputs[name].cpu(), None if real is None else real.cpu())
                total = total * _FACTOR + found
        return total

    def to(self, device: torch.device) -> "Batch":
        """Move the batch to a device; `rows` and `numbers` stay on the CPU."""
        if device.type == "cpu":
            return self
        inputs, scored = send_to_device((dict(self.inputs), self.scored), device)
        return replace(self, inputs=inputs, scored=scored)


class TaskInputs(ABC):
    """Model inputs: token sequences, pairs of them, images, or recordings with texts.

    A *row* is one model output: of a whole sequence, or of one scored position.
    """

    ids: Tensor
    """All token ids, concatenated, ``(tokens,)``; empty for images."""
    lengths: Tensor
    """Cost of each sequence in tokens, ``(sequences,)``; a constant for images."""
    labels: Tensor
    """The true class or token of each row, ``(rows,)``, -100 if unknown; where several classes
    apply 0 or 1 for each, ``(rows, classes)``; scores are floats, ``(rows, scores)``, NaN if
    unknown."""

    @abstractmethod
    def batch(self, numbers: Sequence[int]) -> Batch:
        """Return a batch of these sequences, padded to the longest."""

    @abstractmethod
    def first(self, count: int) -> "TaskInputs":
        """Return the first sequences, at most ``count``."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all inputs."""

    @property
    @abstractmethod
    def row_starts(self) -> Tensor:
        """The first row of each sequence, then the number of rows, ``(sequences + 1,)``."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.row_starts[-1])

    @cached_property
    def checks(self) -> Tensor:
        """The hash of each sequence; see `Batch.checks`."""
        found = torch.zeros(len(self), dtype=torch.long)
        for batch in self.in_order(256):
            found[batch.numbers] = batch.checks
        return found

    def by_sequence(self, values: Tensor) -> Tensor:
        """Average over the rows of each sequence.

        Args:
            values: ``(rows,)``.

        Returns:
            ``(sequences with rows,)``.
        """
        counts = self.row_starts.diff()
        sequence = torch.arange(len(self)).repeat_interleave(counts)
        sums = torch.zeros(len(self), dtype=torch.double).index_add(0, sequence, values.double())
        return sums[counts > 0] / counts[counts > 0]

    def up_to(self, tokens: int) -> "TaskInputs":
        """Return the first sequences with at most ``tokens`` tokens in total, at least one."""
        return self.first(max(1, int((self.lengths.cumsum(0) <= tokens).sum())))

    def alike(self, tokens: int) -> list[int]:
        """Return the indices of sequences around the median length, about ``tokens`` in total.

        Their similar lengths need little padding in one batch.
        """
        order = self.lengths.argsort(stable=True)
        middle = len(order) // 2
        count = max(1, tokens // int(self.lengths[order[middle]]))
        begin = max(0, min(middle - count // 2, len(order) - count))
        return sorted(order[begin : begin + count].tolist())

    def in_order(self, size: int, begin: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Yield every sequence of a range once, in batches of similar length.

        Args:
            size: Maximum sequences per batch.
            begin: The first sequence.
            end: One past the last sequence; None is the end.
        """
        order = begin + self.lengths[begin:end].argsort(stable=True)
        for part in order.split(size):
            yield self.batch(part.tolist())

    def shuffled(
        self, size: int, seed: int, pieces: int = 1, skip: int = 0
    ) -> Iterator[list[Batch]]:
        """Yield shuffled batches endlessly, epoch after epoch.

        To reduce padding, every `STRETCH` batches of a shuffled epoch are sorted by length, cut
        into batches, and the batches shuffled again.

        Args:
            size: Sequences per batch.
            seed: Seed of the order.
            pieces: Parts per batch, for gradient accumulation.
            skip: Number of first batches to skip.

        Yields:
            The parts of one batch.
        """
        generator = np.random.default_rng(seed)
        while True:
            for batch in self.epoch(size, generator):
                if skip:
                    skip -= 1
                    continue
                parts = np.array_split(batch, min(pieces, len(batch)))
                yield [self.batch(part.tolist()) for part in parts]

    def epoch(self, size: int, generator: np.random.Generator) -> Iterator[Numbers]:
        """Yield the indices of each batch of one shuffled epoch; see `shuffled`."""
        lengths = self.lengths.numpy()
        order = generator.permutation(len(self))
        for begin in range(0, len(order), STRETCH * size):
            stretch = order[begin : begin + STRETCH * size]
            stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
            batches = [stretch[i : i + size] for i in range(0, len(stretch), size)]
            yield from (batches[number] for number in generator.permutation(len(batches)))


def starts(lengths: Tensor) -> Tensor:
    """Return the start of each sequence in the concatenation, then its end: ``(n + 1,)``."""
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])


def _hashed(given: Tensor, real: Tensor | None) -> Tensor:
    """Compute a polynomial hash of each sequence modulo 2**64; padding counts as 0."""
    bits = given.float().view(torch.int32) if given.is_floating_point() else given
    values = bits.reshape(len(bits), -1).long() + 1
    if real is not None:
        values = values * real.reshape(len(real), -1).long()
    powers = torch.full((values.shape[1],), _FACTOR, dtype=torch.long).cumprod(0)
    return (values * powers).sum(1)
