"""The distillation task of extractive question answering, on spans of a context."""

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
    encoded_pairs,
    segments_of,
    sequences,
)
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL, LogitsKL, Loss, Targets
from protege.objectives.distillation.tasks.classes import FULL_RATE_DISTANCE
from protege.objectives.distillation.tasks.task import Scores, TaskScore, by_agreement
from protege.spaces import BadInput, Teacher, Unsupported

LONGEST = 30
"""Maximum tokens of an answer, as in transformers' evaluation of SQuAD."""

NEVER = -1e4
"""Logit of a place beyond the context; finite, to avoid 0 * inf."""


@dataclass(frozen=True)
class SpanBatch(Batch):
    """A batch of questions.

    Attributes:
        places: Number of places of the longest context, to which outputs are padded.
    """

    places: int


@dataclass(frozen=True, eq=False)
class Questions(Sequences):
    """Questions with their contexts.

    The places where an answer may begin and end are scored: the first token, which stands for no
    answer, and the tokens of the context. Each question is two rows, the place of the start and
    that of the end, counted among the scored ones. A vocabulary map leaves the places as they are.
    """

    @cached_property
    def row_starts(self) -> Tensor:
        return 2 * torch.arange(len(self) + 1)

    @cached_property
    def places(self) -> int:
        """The largest number of places of a question."""
        sequence = torch.arange(len(self)).repeat_interleave(self.lengths)
        return int(sequence[self.positions].bincount(minlength=1).max())

    def batch(self, numbers: Sequence[int]) -> SpanBatch:
        found = super().batch(numbers)
        return SpanBatch(found.inputs, found.scored, found.rows, found.numbers, self.places)


@dataclass(frozen=True)
class QuestionTask:
    """Extractive question answering.

    An example is a pair of a question and its context, and its label the text of the answer, empty
    if the context has none. The answer of a model is the span with the largest sum of start and end
    logits, at most `LONGEST` tokens long. The agreement of two spans is the F1 of their tokens, by
    place. The quality is the mean F1 with the labels divided by the teacher's, and without labels
    that with the teacher's spans.
    """

    @property
    def name(self) -> str:
        return "answer-spans"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (LogitsKL(),)

    @property
    def full_rate_distance(self) -> float:
        return FULL_RATE_DISTANCE

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one question each
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        if not teacher.tokenizer.is_fast:
            raise Unsupported(
                f"spans for {type(teacher.tokenizer).__name__}: it cannot map tokens to texts; "
                "give a teacher with a fast tokenizer (tokenizer.json)"
            )
        read = encoded_pairs(teacher, examples, max_tokens)
        scored, labels = [], list[int]()
        for number, example in enumerate(examples):
            within = [text == 1 for text in read.sequence_ids(number)]
            within[0] = True
            scored.append(within)
            labels += [
                one if one in {0, NO_LABEL} else sum(within[:one])
                for one in _tokens(read, number, example)
            ]
        own = sequences(teacher, read["input_ids"], scored, labels, segments_of(teacher, read))
        return Questions(own.ids, own.lengths, own.scored, own.labels, own.pad, own.segments)

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        return vocabulary_map.mapped(inputs), targets

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        output: Any = module(**batch.inputs)
        spans = torch.stack([output.start_logits, output.end_logits], dim=-1)
        sequence, token = batch.scored.nonzero(as_tuple=True)
        place = batch.scored.cumsum(1)[sequence, token] - 1
        found = spans.new_full((len(spans), _places(batch), 2), NEVER)
        found = found.index_put((sequence, place), spans[sequence, token])
        return found.transpose(1, 2).flatten(0, 1)

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - no labels here
        return {"logits": answer}

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        mine, theirs, truth = best_spans(answer), best_spans(targets["logits"]), labels.view(-1, 2)
        known = truth[:, 0] != NO_LABEL
        found = {
            "agrees": overlap(mine, theirs),
            "right": torch.where(known, overlap(mine, truth), torch.nan),
            "teacher_right": torch.where(known, overlap(theirs, truth), torch.nan),
        }
        return {name: values.repeat_interleave(2) for name, values in found.items()}

    def score(self, scores: Scores) -> TaskScore:
        # both rows of a question have its score
        found = by_agreement({name: values[::2] for name, values in scores.items()}, "f1")
        found.figures["same_spans"] = float((scores["agrees"][::2] == 1).double().mean())
        return replace(found, rows=found.rows.repeat_interleave(2))


def best_spans(logits: Tensor) -> Tensor:
    """Return the first and last place of each question's best span, ``(questions, 2)``.

    Args:
        logits: Start and end logits in turn, ``(2 * questions, places)``; place 0 is no answer.
    """
    places = logits.shape[1]
    first, last = torch.arange(places)[:, None], torch.arange(places)
    allowed = (first <= last) & (last - first < LONGEST) & ((first > 0) | (last == 0))
    sums = logits[::2, :, None] + logits[1::2, None, :]
    best = sums.masked_fill(~allowed.to(sums.device), -torch.inf).flatten(1).argmax(1)
    return torch.stack([best // places, best % places], dim=1)


def overlap(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the F1 of spans by place, ``(questions,)``; both are ``(questions, 2)``, inclusive."""
    begin, end = torch.maximum(found, wanted)[:, 0], torch.minimum(found, wanted)[:, 1]
    sizes = (found[:, 1] - found[:, 0]) + (wanted[:, 1] - wanted[:, 0]) + 2
    return (2 * (end - begin + 1).clamp(min=0) / sizes.clamp(min=1)).double()


def _places(batch: Batch) -> int:
    """Return the number of places of a batch of questions.

    Raises:
        Unsupported: The batch is of other inputs.
    """
    if not isinstance(batch, SpanBatch):
        raise Unsupported(f"{type(batch).__name__}: expected questions with their contexts")
    return batch.places


def _tokens(read: Any, number: int, example: Example) -> tuple[int, int]:
    """Return the first and last token of the labelled answer.

    Returns:
        0 twice for no answer; -100 twice without a label, or if the answer is truncated.

    Raises:
        BadInput: The label is no text, or no part of the context.
    """
    if example.label is None:
        return NO_LABEL, NO_LABEL
    context = example.content[1] if isinstance(example.content, tuple) else ""
    if not isinstance(example.label, str) or (begin := context.find(example.label.strip())) < 0:
        raise BadInput(
            f"{example.text!r:.40}: the label {example.label!r:.40} is no part of the context; "
            "expected the text of the answer, or '' if there is none"
        )
    answer = example.label.strip()
    if not answer:
        return 0, 0
    ends = (begin, begin + len(answer) - 1)
    tokens = [read.char_to_token(number, at, sequence_index=1) for at in ends]
    if None in tokens:
        return NO_LABEL, NO_LABEL
    return tokens[0], tokens[1]
