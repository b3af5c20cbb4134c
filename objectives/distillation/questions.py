"""What a teacher and its students are asked, batch by batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor

STRETCH = 50
"""Batches of a shuffled epoch that are sorted by length together."""

_ASKED = {
    "input_ids": "attention_mask",
    "decoder_input_ids": "decoder_attention_mask",
    "pixel_values": "",
}
"""What models read, and the mask of what is real of it; of an image all is."""

_FACTOR = 6364136223846793005
"""Of Knuth's linear congruential generator: odd, so that no power of it vanishes modulo 2**64."""


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        inputs: What the model's forward takes, by name; the first dimension is the batch.
        scored: Where the model's answer counts, ``(sequences, tokens)`` of the side that answers.
            Row-major, its true entries are the batch's rows; all false where a sequence as a whole
            is one row.
        rows: Which rows of all questions these are.
        numbers: Which sequences these are.
    """

    inputs: Mapping[str, Tensor]
    scored: Tensor
    rows: Tensor
    numbers: Tensor

    @property
    def mask(self) -> Tensor:
        """Which tokens are real, ``(sequences, tokens)``; one for each image."""
        mask = self.inputs.get("attention_mask")
        return torch.ones(len(self.numbers), 1) if mask is None else mask

    @property
    def checks(self) -> Tensor:
        """A hash of what each sequence asks, padding left out, ``(sequences,)``."""
        total = torch.zeros(len(self.numbers), dtype=torch.long)
        for name, mask in _ASKED.items():
            if name in self.inputs:
                real = self.inputs.get(mask)
                found = _hashed(self.inputs[name].cpu(), None if real is None else real.cpu())
                total = total * _FACTOR + found
        return total

    def to(self, device: torch.device) -> "Batch":
        """The same on a device; rows and numbers stay where the answers are kept."""
        if device.type == "cpu":
            return self
        inputs, scored = send_to_device((dict(self.inputs), self.scored), device)
        return replace(self, inputs=inputs, scored=scored)


class Questions(ABC):
    """A store of questions: sequences of tokens, pairs of them, or images.

    A *row* is one answer: of a sequence as a whole, or of one scored position.
    """

    ids: Tensor
    """All token ids that are read, one sequence after another; none of images."""
    lengths: Tensor
    """What each sequence costs to read, ``(sequences,)``: tokens, or as many for an image."""
    labels: Tensor
    """The true class, or token, of each row; -100 where it has none."""

    @abstractmethod
    def batch(self, numbers: Sequence[int]) -> Batch:
        """The sequences of these numbers, padded to the longest of them."""

    @abstractmethod
    def first(self, count: int) -> "Questions":
        """The first sequences, at most that many."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that is asked."""

    @property
    @abstractmethod
    def row_starts(self) -> Tensor:
        """The first row of each sequence, and one past the last, ``(sequences + 1,)``."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """Answers in all."""
        return int(self.row_starts[-1])

    @cached_property
    def checks(self) -> Tensor:
        """The hash of each sequence; see `Batch.checks`."""
        found = torch.zeros(len(self), dtype=torch.long)
        for batch in self.in_order(256):
            found[batch.numbers] = batch.checks
        return found

    def by_sequence(self, values: Tensor) -> Tensor:
        """The mean over each sequence's rows, ``(sequences,)``; sequences without any are left out.

        Args:
            values: ``(rows,)``.
        """
        counts = self.row_starts.diff()
        sequence = torch.arange(len(self)).repeat_interleave(counts)
        sums = torch.zeros(len(self), dtype=torch.double).index_add(0, sequence, values.double())
        return sums[counts > 0] / counts[counts > 0]

    def up_to(self, tokens: int) -> "Questions":
        """The first sequences that have so many tokens in all, at least one."""
        return self.first(max(1, int((self.lengths.cumsum(0) <= tokens).sum())))

    def alike(self, tokens: int) -> list[int]:
        """Numbers of the sequences around the median length that have so many tokens, about.

        In one batch they need little padding; where there are fewer tokens, all of them.
        """
        order = self.lengths.argsort(stable=True)
        middle = len(order) // 2
        count = max(1, tokens // int(self.lengths[order[middle]]))
        begin = max(0, min(middle - count // 2, len(order) - count))
        return sorted(order[begin : begin + count].tolist())

    def in_order(self, size: int, begin: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Every sequence from begin to end once, similar lengths together.

        Args:
            size: Sequences of a batch, at most.
            begin: The first sequence.
            end: One past the last one; all there are if not given.
        """
        order = begin + self.lengths[begin:end].argsort(stable=True)
        for part in order.split(size):
            yield self.batch(part.tolist())

    def shuffled(
        self, size: int, seed: int, pieces: int = 1, skip: int = 0
    ) -> Iterator[list[Batch]]:
        """Batches without end, epoch after epoch, the same for the same seed.

        Sequences of similar length share a batch, so that little of it is padding: each stretch of
        fifty batches of a shuffled epoch is sorted by length, then its batches are shuffled again.

        Args:
            size: Sequences of a batch.
            seed: Of the order.
            pieces: Parts that each batch is made in, for they are read one after another.
            skip: So many of the first are left out, and not made.
        """
        generator = np.random.default_rng(seed)
        lengths = self.lengths.numpy()
        while True:
            order = generator.permutation(len(self))
            for begin in range(0, len(order), STRETCH * size):
                stretch = order[begin : begin + STRETCH * size]
                stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
                batches = [stretch[i : i + size] for i in range(0, len(stretch), size)]
                for number in generator.permutation(len(batches)):
                    if skip:
                        skip -= 1
                        continue
                    parts = np.array_split(batches[number], min(pieces, len(batches[number])))
                    yield [self.batch(part.tolist()) for part in parts]


def starts(lengths: Tensor) -> Tensor:
    """Where each begins that is so long, and where the last one ends."""
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])


def _hashed(given: Tensor, real: Tensor | None) -> Tensor:
    """A polynomial of each sequence's values, modulo 2**64; what is no real token counts as 0."""
    bits = given.float().view(torch.int32) if given.is_floating_point() else given
    values = bits.reshape(len(bits), -1).long() + 1
    if real is not None:
        values = values * real.reshape(len(real), -1).long()
    powers = torch.full((values.shape[1],), _FACTOR, dtype=torch.long).cumprod(0)
    return (values * powers).sum(1)
