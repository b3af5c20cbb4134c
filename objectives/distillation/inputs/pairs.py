"""Pairs of source and target texts as inputs of an encoder-decoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.spaces.files.hashing import digest


@dataclass(frozen=True, eq=False)
class Pairs(TaskInputs):
    """Pairs of source and target texts.

    Attributes:
        read: Encoder input ids.
        written: Decoder ids: the start token, then the target. Every position but the last predicts
            the next token.
        ids: All ids of both.
        lengths: Tokens that encoder and decoder read per pair, ``(pairs,)``.
        labels: The target token of each row, ``(rows,)``.
    """

    read: Sequences
    written: Sequences
    ids: Tensor
    lengths: Tensor
    labels: Tensor

    @classmethod
    def of(cls, read: Sequences, written: Sequences) -> "Pairs":
        """Pair sequences one to one; the decoder does not read the last target token."""
        ids = torch.cat([read.ids, written.ids])
        return cls(read, written, ids, read.lengths + written.lengths - 1, written.labels)

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.read.fingerprint.encode(), self.written.fingerprint.encode())

    @property
    def row_starts(self) -> Tensor:
        return self.written.row_starts

    def first(self, count: int) -> "Pairs":
        return Pairs.of(self.read.first(count), self.written.first(count))

    def batch(self, numbers: Sequence[int]) -> Batch:
        written = decoder_batch(self.written, numbers)
        return replace(written, inputs={**self.read.batch(numbers).inputs, **written.inputs})


def decoder_batch(written: Sequences, numbers: Sequence[int]) -> Batch:
    """Return the decoder's share of a batch, which does not read the last token of a sequence."""
    batch = written.batch(numbers)
    mask = batch.mask[:, 1:]
    ids = batch.inputs["input_ids"][:, :-1].masked_fill(mask == 0, written.pad)
    inputs = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    return replace(batch, inputs=inputs, scored=batch.scored[:, :-1])
