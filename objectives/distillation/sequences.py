"""Token sequences in one flat store, and the batches that are made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from protege.spaces.cache import digest, tensor_bytes


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        input_ids: ``(sequences, tokens)``, padded on the right.
        attention_mask: The same shape; 1 for real tokens.
        scored: The same shape; true where the model's answer counts. Row-major, its true entries
            are the batch's rows; all false where a sequence as a whole is one row.
        rows: Which rows of the store these are.
    """

    input_ids: Tensor
    attention_mask: Tensor
    scored: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False)
class Sequences:
    """Tokenised texts, and which of their positions the teacher is asked about.

    A *row* is one answer: of a sequence as a whole, or of one scored position.

    Attributes:
        ids: All token ids, one sequence after another.
        lengths: Tokens of each sequence.
        scored: For each id, whether it is a row; none where each sequence is one row.
        labels: The true class of each row, -100 where it has none.
        pad: The id that fills up a batch.
    """

    ids: Tensor
    lengths: Tensor
    scored: Tensor | None
    labels: Tensor
    pad: int

    @classmethod
    def of(
        cls,
        ids: Sequence[Sequence[int]],
        scored: Sequence[Sequence[bool]] | None,
        labels: Sequence[int],
        pad: int,
    ) -> "Sequences":
        """The store of these sequences; labels are one a row."""
        return cls(
            ids=torch.tensor([i for one in ids for i in one], dtype=torch.int32),
            lengths=torch.tensor([len(one) for one in ids]),
            scored=None if scored is None else torch.tensor([s for one in scored for s in one]),
            labels=torch.tensor(labels),
            pad=pad,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def rows(self) -> int:
        """Answers in all."""
        return len(self) if self.scored is None else int(self.scored.sum())

    @property
    def positions(self) -> Tensor:
        """Where in all ids the scored ones stand; none where each sequence is one row."""
        return torch.arange(0) if self.scored is None else self.scored.nonzero().squeeze(1)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of ids, lengths, scored positions and labels."""
        scored = torch.ones(0) if self.scored is None else self.scored
        return digest(*map(tensor_bytes, (self.ids, self.lengths, scored, self.labels)))

    def first(self, count: int) -> "Sequences":
        """The first sequences, at most that many."""
        if count >= len(self):
            return self
        tokens, rows = int(self._starts[count]), int(self._row_starts[count])
        return Sequences(
            ids=self.ids[:tokens],
            lengths=self.lengths[:count],
            scored=None if self.scored is None else self.scored[:tokens],
            labels=self.labels[:rows],
            pad=self.pad,
        )

    def up_to(self, tokens: int) -> "Sequences":
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

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The sequences of these numbers, padded to the longest of them."""
        lengths = self.lengths[list(numbers)]
        shape = (len(numbers), int(lengths.max()))
        input_ids = torch.full(shape, self.pad)
        scored = torch.zeros(shape, dtype=torch.bool)
        rows = []
        for place, number in enumerate(numbers):
            begin, end = int(self._starts[number]), int(self._starts[number + 1])
            input_ids[place, : end - begin] = self.ids[begin:end]
            if self.scored is not None:
                scored[place, : end - begin] = self.scored[begin:end]
            rows.append(
                torch.arange(int(self._row_starts[number]), int(self._row_starts[number + 1]))
            )
        mask = torch.arange(shape[1]) < lengths[:, None]
        return Batch(input_ids, mask.long(), scored, torch.cat(rows))

    def in_order(self, size: int) -> Iterator[Batch]:
        """Every sequence once, similar lengths together, in batches of at most that many."""
        order = self.lengths.argsort(stable=True).tolist()
        for begin in range(0, len(order), size):
            yield self.batch(order[begin : begin + size])

    def shuffled(self, size: int, seed: int) -> Iterator[Batch]:
        """Batches without end, epoch after epoch, the same for the same seed.

        Sequences of similar length share a batch, so that little of it is padding: each stretch of
        fifty batches of a shuffled epoch is sorted by length, then its batches are shuffled again.
        """
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(len(self))
            lengths = self.lengths.numpy()
            for begin in range(0, len(order), 50 * size):
                stretch = order[begin : begin + 50 * size]
                stretch = stretch[np.argsort(lengths[stretch], kind="stable")]
                batches = [stretch[i : i + size] for i in range(0, len(stretch), size)]
                for number in generator.permutation(len(batches)):
                    yield self.batch(batches[number].tolist())

    @cached_property
    def _starts(self) -> Tensor:
        return _starts(self.lengths)

    @cached_property
    def _row_starts(self) -> Tensor:
        if self.scored is None:
            return torch.arange(len(self) + 1)
        before = _starts(self.scored.long())
        return before[self._starts]


def _starts(lengths: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
