"""Tokenisation of examples, and token sequences in one flat tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs, starts
from protege.spaces import BadInput, Teacher, Unsupported
from protege.spaces.checkpoints.padding import rows_of
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest

CHARACTERS = 6
"""Upper estimate of the characters per token, so that enough text is taken from the data."""


@dataclass(frozen=True, eq=False)
class Sequences(TaskInputs):
    """Tokenised texts and their scored positions.

    Attributes:
        ids: All token ids, concatenated, ``(tokens,)``.
        lengths: Tokens of each sequence, ``(sequences,)``.
        scored: Whether the position of each id is a row, ``(tokens,)``; None if each sequence is
            one row.
        labels: The true class of each row, ``(rows,)``; -100 if unknown.
        pad: The padding id.
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
        """Build from lists of ids per sequence and one label per row."""
        return cls(
            ids=torch.tensor([i for one in ids for i in one], dtype=torch.int32),
            lengths=torch.tensor([len(one) for one in ids]),
            scored=None if scored is None else torch.tensor([s for one in scored for s in one]),
            labels=torch.tensor(labels),
            pad=pad,
        )

    @property
    def positions(self) -> Tensor:
        """Indices of the scored ids, ``(rows,)``; empty if each sequence is one row."""
        return torch.arange(0) if self.scored is None else self.scored.nonzero().squeeze(1)

    @cached_property
    def fingerprint(self) -> str:
        scored = torch.ones(0) if self.scored is None else self.scored
        return digest(*map(tensor_bytes, (self.ids, self.lengths, scored, self.labels)))

    def first(self, count: int) -> "Sequences":
        if count >= len(self):
            return self
        tokens, rows = int(self.starts[count]), int(self.row_starts[count])
        return Sequences(
            ids=self.ids[:tokens],
            lengths=self.lengths[:count],
            scored=None if self.scored is None else self.scored[:tokens],
            labels=self.labels[:rows],
            pad=self.pad,
        )

    def batch(self, numbers: Sequence[int]) -> Batch:
        lengths = self.lengths[list(numbers)]
        shape = (len(numbers), int(lengths.max()))
        input_ids = torch.full(shape, self.pad)
        scored = torch.zeros(shape, dtype=torch.bool)
        rows = []
        for place, number in enumerate(numbers):
            begin, end = int(self.starts[number]), int(self.starts[number + 1])
            input_ids[place, : end - begin] = self.ids[begin:end]
            if self.scored is not None:
                scored[place, : end - begin] = self.scored[begin:end]
            rows.append(
                torch.arange(int(self.row_starts[number]), int(self.row_starts[number + 1]))
            )
        mask = (torch.arange(shape[1]) < lengths[:, None]).long()
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        return Batch(inputs, scored, torch.cat(rows), torch.tensor(numbers))

    @cached_property
    def starts(self) -> Tensor:
        """The start of each sequence in `ids`, then the number of ids, ``(sequences + 1,)``."""
        return starts(self.lengths)

    @cached_property
    def row_starts(self) -> Tensor:
        if self.scored is None:
            return torch.arange(len(self) + 1)
        return starts(self.scored.long())[self.starts]


def tokens_in(inputs: TaskInputs) -> Sequences:
    """Narrow the type to token sequences, which a vocabulary map needs.

    Raises:
        Unsupported: The inputs are not token sequences.
    """
    if not isinstance(inputs, Sequences):
        raise Unsupported(
            f"{type(inputs).__name__}: only token sequences can be mapped to a cut vocabulary; "
            "keep the whole vocabulary"
        )
    return inputs


def texts_of(examples: Sequence[Example], teacher: Teacher) -> list[str]:
    """Return the texts of the examples.

    Raises:
        BadInput: An example is an image, words, or a pair of texts.
    """
    for example in examples:
        if not isinstance(example.content, str):
            found = "an image"
            if isinstance(example.content, tuple):
                found = f"a list of {len(example.content)} texts (words, or a pair)"
            raise BadInput(
                f"an example that is {found}: a teacher for {teacher.task} reads single texts; "
                "give Texts of strings"
            )
    return [str(example.content) for example in examples]


def encoded(teacher: Teacher, texts: Sequence[Any], max_tokens: int, **options: Any) -> Any:
    """Tokenise texts, truncated to `max_tokens` and to what the teacher reads.

    Args:
        teacher: The teacher.
        texts: Texts, or lists of words.
        max_tokens: Maximum sequence length.
        options: Further options of the tokenizer.
    """
    limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
    return teacher.tokenizer(texts, **limit, **options)


def sequences(
    teacher: Teacher,
    ids: Sequence[Sequence[int]],
    scored: Sequence[Sequence[bool]] | None,
    labels: Sequence[int],
) -> Sequences:
    """Build sequences with the teacher's padding id; see `Sequences.of`.

    Raises:
        BadInput: The teacher's embedding has no row for a token.
    """
    found, rows = Sequences.of(ids, scored, labels, teacher.pad_id), rows_of(teacher.model)
    if len(found.ids) and int(found.ids.max()) >= rows:
        last = int(found.ids.max())
        token = teacher.tokenizer.convert_ids_to_tokens(last)
        raise BadInput(
            f"{teacher.source}: its tokenizer has the token {token!r} with id {last}, and its "
            f"embedding has {rows} rows; resize the embedding, or remove the token"
        )
    return found
