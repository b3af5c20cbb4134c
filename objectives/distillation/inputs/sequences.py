"""Tokenisation of examples, and token sequences in one flat tensor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any, Self

import torch
from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs, starts
from protege.spaces import BadInput, Teacher, Unsupported
from protege.spaces.checkpoints.padding import rows_of
from protege.spaces.checkpoints.tasks import compares_texts
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
        segments: The segment of each id, 0 or 1, ``(tokens,)``, for models that are told the first
            text of a pair from the second; None for others.
    """

    ids: Tensor
    lengths: Tensor
    scored: Tensor | None
    labels: Tensor
    pad: int
    segments: Tensor | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[Sequence[int]],
        scored: Sequence[Sequence[bool]] | None,
        labels: Sequence[Any],
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
        parts = (self.ids, self.lengths, scored, self.labels)
        segments = () if self.segments is None else (self.segments,)
        return digest(*map(tensor_bytes, (*parts, *segments)))

    def first(self, count: int) -> Self:
        if count >= len(self):
            return self
        tokens, rows = int(self.starts[count]), int(self.row_starts[count])
        return replace(
            self,
            ids=self.ids[:tokens],
            lengths=self.lengths[:count],
            scored=None if self.scored is None else self.scored[:tokens],
            labels=self.labels[:rows],
            segments=None if self.segments is None else self.segments[:tokens],
        )

    def batch(self, numbers: Sequence[int]) -> Batch:
        lengths = self.lengths[list(numbers)]
        shape = (len(numbers), int(lengths.max()))
        input_ids = torch.full(shape, self.pad)
        scored, segments = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape).long()
        rows = []
        for place, number in enumerate(numbers):
            begin, end = int(self.starts[number]), int(self.starts[number + 1])
            input_ids[place, : end - begin] = self.ids[begin:end]
            if self.scored is not None:
                scored[place, : end - begin] = self.scored[begin:end]
            if self.segments is not None:
                segments[place, : end - begin] = self.segments[begin:end]
            rows.append(
                torch.arange(int(self.row_starts[number]), int(self.row_starts[number + 1]))
            )
        mask = (torch.arange(shape[1]) < lengths[:, None]).long()
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        if self.segments is not None:
            inputs["token_type_ids"] = segments
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


def text_rows(
    teacher: Teacher, examples: Sequence[Example], max_tokens: int, labels: Sequence[Any]
) -> Sequences:
    """Tokenise texts or pairs of texts, one row for each text or pair.

    Raises:
        BadInput: An example is neither, or single where the teacher compares two texts.
    """
    compares = teacher.reads_pairs or compares_texts(teacher.config)
    if compares or (examples and isinstance(examples[0].content, tuple)):
        read = encoded_pairs(teacher, examples, max_tokens)
        return sequences(teacher, read["input_ids"], None, labels, segments_of(teacher, read))
    ids = encoded(teacher, texts_of(examples, teacher), max_tokens)["input_ids"]
    return sequences(teacher, ids, None, labels)


def encoded_pairs(teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> Any:
    """Tokenise pairs of texts; of a pair that is too long, the longer text is truncated.

    Raises:
        BadInput: An example is no pair of texts.
    """
    pairs = [_pair_in(example, teacher) for example in examples]
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    return encoded(teacher, first, max_tokens, text_pair=second)


def segments_of(teacher: Teacher, read: Any) -> list[list[int]] | None:
    """Return the segment of each token; None if the model has one segment or takes none."""
    several = (getattr(teacher.config, "type_vocab_size", 0) or 0) > 1
    takes = "token_type_ids" in signature(teacher.model.forward).parameters
    return read.get("token_type_ids") if several and takes else None


def _pair_in(example: Example, teacher: Teacher) -> tuple[str, ...]:
    content = example.content
    if not isinstance(content, tuple) or len(content) != 2:
        found = f"{len(content)} texts" if isinstance(content, tuple) else "no pair"
        raise BadInput(
            f"{example.text!r:.40}: {found}; this teacher for {teacher.task} reads pairs of texts; "
            "give Texts of two strings each, such as a question and its context"
        )
    return content


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
    labels: Sequence[Any],
    segments: Sequence[Sequence[int]] | None = None,
) -> Sequences:
    """Build sequences with the teacher's padding id; see `Sequences`.

    Raises:
        BadInput: The teacher's embedding has no row for a token.
    """
    found, rows = Sequences.of(ids, scored, labels, teacher.pad_id), rows_of(teacher.model)
    if segments is not None:
        found = replace(found, segments=torch.tensor([s for one in segments for s in one]))
    if len(found.ids) and int(found.ids.max()) >= rows:
        last = int(found.ids.max())
        token = teacher.tokenizer.convert_ids_to_tokens(last)
        raise BadInput(
            f"{teacher.source}: its tokenizer has the token {token!r} with id {last}, and its "
            f"embedding has {rows} rows; resize the embedding, or remove the token"
        )
    return found
