"""Scores of extractive question answering, with the normalisation of SQuAD."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.quality.score import Score
from protege.objectives.scores.metric import Options, check_fast, check_installed, score
from protege.spaces import Student

LONGEST = 30
"""Maximum tokens of an answer, as in the recipes of SQuAD."""

STRIDE = 128
"""Tokens that two windows of a long context share, at most a quarter of a window."""

Kind = Literal["exact_match", "f1"]


@dataclass(frozen=True)
class Answers:
    """Exact match or F1 of the most likely span of each context.

    If any question has no answer, students may give none: if the logits of the first token exceed
    those of every span.

    Attributes:
        table: Columns ``question``, ``context`` and ``answers``.
        kind: The metric.
    """

    table: Table
    kind: Kind

    def __call__(self, student: Student) -> list[float]:
        from torchmetrics.functional.text import squad

        right = [_texts(one) for one in self.table.columns["answers"]]
        found = spans(
            student,
            self.table.texts("question"),
            self.table.texts("context"),
            may_be_empty=not all(right),
        )
        values = []
        for text, answers in zip(found, right, strict=True):
            said: Any = {"prediction_text": text, "id": "0"}
            texts = answers or [""]
            true: Any = {"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": "0"}
            values.append(float(squad([said], [true])[self.kind]) / 100)
        return values


def _texts(answers: Any) -> list[str]:
    """Return the texts of answers: those of SQuAD's mapping, of a list, or of one text."""
    if isinstance(answers, Mapping):
        answers = answers["text"]
    return [answers] if isinstance(answers, str) else [str(one) for one in answers]


def spans(
    student: Student,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    may_be_empty: bool = False,
) -> list[str]:
    """Return the most likely span of each context.

    A long context is read in windows that overlap.
    """
    check_fast(student)
    limit = student.max_tokens
    cut: dict[str, Any] = {}
    if limit is not None:
        cut = {"truncation": "only_second", "max_length": limit, "stride": min(STRIDE, limit // 4)}
    read: Any = student.tokenizer(
        list(questions),
        list(contexts),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        **cut,
    )
    owner = read.get("overflow_to_sample_mapping") or range(len(questions))
    logits = student.predict({n: read[n] for n in student.tokenizer.model_input_names if n in read})
    best = [(-float("inf"), "")] * len(questions)
    empty = [float("inf")] * len(questions)
    for window, number in enumerate(owner):
        places = read["offset_mapping"][window]
        inside = torch.tensor([one == 1 for one in read.sequence_ids(window)])
        value, first, last = best_span(logits[window, : len(places)], inside)
        if value > best[number][0]:
            best[number] = value, contexts[number][places[first][0] : places[last][1]]
        empty[number] = min(empty[number], float(logits[window, 0].sum()))
    return [
        "" if may_be_empty and nothing > value else text
        for (value, text), nothing in zip(best, empty, strict=True)
    ]


def best_span(logits: Tensor, inside: Tensor) -> tuple[float, int, int]:
    """Return the highest sum of a start and an end logit, and the two tokens.

    Args:
        logits: Start and end logits, ``(tokens, 2)``.
        inside: Whether each token is of the context, ``(tokens,)``.
    """
    start, end = logits.masked_fill(~inside[:, None], -torch.inf).unbind(1)
    band = torch.ones(len(start), len(start)).triu().tril(LONGEST - 1).bool()
    sums = (start[:, None] + end).masked_fill(~band, -torch.inf)
    first, last = divmod(int(sums.argmax()), len(start))
    return float(sums[first, last]), first, last


def exact_match(data: Data, **options: Unpack["Columns"]) -> Score:
    """Return the share of answers that match exactly, as of SQuAD (torchmetrics).

    Args:
        data: Questions with a context, and the answers as SQuAD has them, as a list of texts or as
            one text; an empty list if there is none.
        options: See `Columns`.
    """
    return _score("exact_match", data, options)


def question_f1(data: Data, **options: Unpack["Columns"]) -> Score:
    """Return the mean F1 of the words of answers, as of SQuAD (torchmetrics); see `exact_match`."""
    return _score("f1", data, options)


class Columns(Options, total=False):
    """Options, and the columns of the data.

    Attributes:
        question: Column of the questions, by default ``question``.
        context: Column of the contexts, by default ``context``.
        answers: Column of the answers, by default ``answers``.
    """

    question: str
    context: str
    answers: str


def _score(kind: Kind, data: Data, options: Columns) -> Score:
    check_installed("torchmetrics")
    roles = {name: options.get(name, name) for name in ("question", "context", "answers")}
    own: Any = {name: one for name, one in options.items() if name not in roles}

    def metric(given: Data) -> Answers:
        return Answers(Table.of(given, **{name: str(one) for name, one in roles.items()}), kind)

    return score("exact_match" if kind == "exact_match" else "question_f1", metric, data, **own)
