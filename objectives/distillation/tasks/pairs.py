"""The distillation task of sequence-to-sequence models, on pairs of source and target text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import (
    Sequences,
    encoded,
    sequences,
    texts_of,
    tokens_in,
)
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import TOP, Loss, Targets
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.task import Scores, TaskScore
from protege.spaces import BadInput, Teacher, Unsupported
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


@dataclass(frozen=True)
class PairTask:
    """Next-token prediction on target texts, given the source text.

    The label of an example is its target text. The quality is the teacher's perplexity of the
    targets divided by the student's, with teacher forcing; nothing is generated.

    Attributes:
        temperature: Temperature of the teacher's distribution; see `LogitsKL`.
        top: Number of the teacher's most likely tokens to keep; see `LogitsKL`.
    """

    temperature: float = 1.0
    top: int | None = TOP

    @property
    def language(self) -> LanguageTask:
        """The next-token task that handles the decoder's outputs."""
        return LanguageTask(temperature=self.temperature, top=self.top)

    @property
    def name(self) -> str:
        return f"answer-{self.language.name}"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self.language.losses

    @property
    def full_rate_distance(self) -> float:
        return self.language.full_rate_distance

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one pair, one sequence
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        texts, answers = texts_of(examples, teacher), [written_text(one) for one in examples]
        given = encoded(teacher, texts, max_tokens)["input_ids"]
        # `text_target`: multilingual tokenizers encode targets in the target language
        limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
        target_ids: Any = teacher.tokenizer(text_target=answers, **limit)["input_ids"]
        read = sequences(teacher, given, None, [0] * len(given))
        written = [[_start(teacher, one), *one] for one in target_ids]
        scored = [[True] * len(one) + [False] for one in target_ids]
        labels = [token for one in target_ids for token in one]
        return Pairs.of(read, sequences(teacher, written, scored, labels))

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        pairs = _pairs_in(inputs)
        written, answers = self.language.mapped(pairs.written, targets, vocabulary_map)
        return Pairs.of(vocabulary_map.mapped(pairs.read), tokens_in(written)), answers

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        return self.language.answer(module, batch)

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return self.language.targets(answer, labels)

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        return self.language.scores(answer, targets, labels)

    def score(self, scores: Scores) -> TaskScore:
        return self.language.score(scores)


def written_text(example: Example) -> str:
    """Return the target text of an example.

    Raises:
        BadInput: The label is not a text.
    """
    if not isinstance(example.label, str):
        given = "no label" if example.label is None else f"the label {example.label!r:.40}"
        raise BadInput(
            f"{example.content!r:.40}: {given}; expected the target text that is to be generated"
        )
    return example.label


def _start(teacher: Teacher, answer: list[int]) -> int:
    """Return the decoder's start token for a target.

    Raises:
        Unsupported: The model does not define it.
    """
    shift: Any = getattr(teacher.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise Unsupported(
            f"{type(teacher.model).__name__}: the decoder's start token is unknown; expected a "
            "model with prepare_decoder_input_ids_from_labels, such as T5 or BART"
        )
    return int(shift(labels=torch.tensor([answer]))[0, 0])


def _pairs_in(inputs: TaskInputs) -> Pairs:
    """Narrow the type to pairs.

    Raises:
        Unsupported: The inputs are not pairs.
    """
    if not isinstance(inputs, Pairs):
        raise Unsupported(f"{type(inputs).__name__}: expected pairs of a text and its answer")
    return inputs
