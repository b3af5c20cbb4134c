"""Models that write a text in answer to another: what they say of each token of the true answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.language import LanguageLesson
from protege.objectives.distillation.lesson import Loss, Scores, Targets, Verdict
from protege.objectives.distillation.losses import TOP
from protege.objectives.distillation.questions import Batch, Questions
from protege.objectives.distillation.sequences import Sequences, tokens_in
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.distillation.wording import encoded, sequences, texts_of
from protege.spaces import BadInput, Teacher, Unsupported
from protege.spaces.files.hashing import digest


@dataclass(frozen=True, eq=False)
class Pairs(Questions):
    """Texts that are read, and texts that are written in answer to them.

    Attributes:
        read: The ids of the encoder.
        written: The ids of the decoder: what it starts with, then the answer. Each position but the
            last is asked for the token that follows it.
        ids: All ids of both.
        lengths: Tokens that encoder and decoder read of each pair.
        labels: The token of the answer that each row is asked for.
    """

    read: Sequences
    written: Sequences
    ids: Tensor
    lengths: Tensor
    labels: Tensor

    @classmethod
    def of(cls, read: Sequences, written: Sequences) -> "Pairs":
        """The pairs of as many sequences each; the last token written is read by nobody."""
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
        read, written = self.read.batch(numbers), self.written.batch(numbers)
        mask = written.mask[:, 1:]
        ids = written.inputs["input_ids"][:, :-1].masked_fill(mask == 0, self.written.pad)
        decoder = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
        inputs = {**read.inputs, **decoder}
        return Batch(inputs, written.scored[:, :-1], written.rows, written.numbers)


@dataclass(frozen=True)
class PairLesson:
    """The next token of the true answer to a text, given all of it that comes before.

    The label of an example is the answer. The quality is the teacher's perplexity over these
    answers, divided by the student's, as of other language models: each is told the true tokens
    before the one it is asked for (teacher forcing), nothing is generated.

    Attributes:
        temperature: By which the teacher's distribution is softened; see `LogitsKL`.
        top: Its tokens that are kept by name; see `LogitsKL`.
    """

    temperature: float = 1.0
    top: int | None = TOP

    @property
    def language(self) -> LanguageLesson:
        """What is taught of each token."""
        return LanguageLesson(temperature=self.temperature, top=self.top)

    @property
    def name(self) -> str:
        return f"answer-{self.language.name}"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self.language.losses

    @property
    def far(self) -> float:
        return self.language.far

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one pair, one sequence
        return 1.0

    def questions(
        self, teacher: Teacher, examples: Sequence[Example], max_tokens: int
    ) -> Questions:
        texts, answers = texts_of(examples, teacher), [_answer_in(one) for one in examples]
        given = encoded(teacher, texts, max_tokens)["input_ids"]
        # in the language that a tokenizer of several writes, which is not the one that it reads
        limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
        asked: Any = teacher.tokenizer(text_target=answers, **limit)["input_ids"]
        read = sequences(teacher, given, None, [0] * len(given))
        written = [[_start(teacher, one), *one] for one in asked]
        scored = [[True] * len(one) + [False] for one in asked]
        labels = [token for one in asked for token in one]
        return Pairs.of(read, sequences(teacher, written, scored, labels))

    def respelt(
        self, questions: Questions, targets: Targets, spelling: Spelling
    ) -> tuple[Questions, Targets]:
        pairs = _pairs_in(questions)
        written, answers = self.language.respelt(pairs.written, targets, spelling)
        return Pairs.of(spelling.respelt(pairs.read), tokens_in(written)), answers

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        return self.language.answer(module, batch)

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return self.language.targets(answer, labels)

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        return self.language.scores(answer, targets, labels)

    def verdict(self, scores: Scores) -> Verdict:
        return self.language.verdict(scores)


def _answer_in(example: Example) -> str:
    """The text that is to be written.

    Raises:
        BadInput: There is none.
    """
    if not isinstance(example.label, str):
        given = "no label" if example.label is None else f"the label {example.label!r:.40}"
        raise BadInput(
            f"{example.content!r:.40}: {given}; expected the text that is to be written for it"
        )
    return example.label


def _start(teacher: Teacher, answer: list[int]) -> int:
    """What the decoder reads before the answer, by the model's own convention.

    Raises:
        Unsupported: The model does not say.
    """
    shift: Any = getattr(teacher.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise Unsupported(
            f"{type(teacher.model).__name__}: it does not say what its decoder starts with; "
            "expected a model with prepare_decoder_input_ids_from_labels, as T5 and BART"
        )
    return int(shift(labels=torch.tensor([answer]))[0, 0])


def _pairs_in(questions: Questions) -> Pairs:
    """Questions that are pairs, as such."""
    if not isinstance(questions, Pairs):
        raise Unsupported(f"{type(questions).__name__}: expected pairs of a text and its answer")
    return questions
