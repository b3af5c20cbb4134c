"""Spans are found by search over all, and counted as by torchmetrics' SQuAD."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from protege.objectives import scores
from protege.objectives.scores.questions import LONGEST, best_span, spans
from tests.objectives.scores.students import Row, result, sentences, student_of

NAME = "bert-questions"


def asked(seed: int, count: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    rows = []
    for question, context in zip(
        sentences(seed, count, 4), sentences(seed + 1, count, 20), strict=True
    ):
        words = context.split()
        first = int(generator.integers(len(words)))
        answer = " ".join(words[first : first + 2])
        rows.append({"question": question, "context": context, "answers": [answer, words[0]]})
    return rows


@contextmanager
def float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@given(seed=st.integers(0, 10**6), count=st.integers(2, 8))
def test_answers_are_counted_as_of_squad(seed: int, count: int) -> None:
    rows, student = asked(seed, count), student_of(NAME)
    said = spans(student, [r["question"] for r in rows], [r["context"] for r in rows])
    true: list[Any] = [
        {"answers": {"text": row["answers"], "answer_start": [0, 0]}, "id": str(number)}
        for number, row in enumerate(rows)
    ]
    found: list[Any] = [
        {"prediction_text": text, "id": str(number)} for number, text in enumerate(said)
    ]
    with float64():  # torchmetrics counts in the default type
        expected = squad(found, true)
        for score, name in ((scores.exact_match, "exact_match"), (scores.question_f1, "f1")):
            one = result(score(rows), student)
            assert one.value == pytest.approx(float(expected[name]) / 100, abs=1e-9)
            assert len(one.examples) == count


def test_answers_may_be_as_squad_has_them() -> None:
    rows, student = asked(0, 6), student_of(NAME)
    theirs = [row | {"answers": {"text": row["answers"], "answer_start": [0, 0]}} for row in rows]
    assert result(scores.question_f1(theirs), student) == result(scores.question_f1(rows), student)
    right = spans(student, [r["question"] for r in rows], [r["context"] for r in rows])
    own = [row | {"answers": text} for row, text in zip(rows, right, strict=True)]
    assert result(scores.exact_match(own), student).value == 1


@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 50))
def test_the_best_span_is_the_best_of_all(seed: int, tokens: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(tokens, 2, generator=generator)
    inside = torch.rand(tokens, generator=generator) < 0.7
    inside[int(torch.randint(tokens, (1,), generator=generator))] = True
    every = {
        (first, last): float(logits[first, 0] + logits[last, 1])
        for first in range(tokens)
        for last in range(first, min(tokens, first + LONGEST))
        if inside[first] and inside[last]
    }
    value, first, last = best_span(logits, inside)
    assert value == max(every.values()) == every[first, last]


def test_a_long_context_is_read_in_windows() -> None:
    student = student_of(NAME)
    context = " ".join(f"w{n % 91}" for n in range(80))
    seen: list[Any] = []

    def note(_module: Any, _given: Any, named: Any, _out: Any) -> None:
        seen.append(named["input_ids"])

    handle = student.model.register_forward_hook(note, with_kwargs=True)
    try:
        answer = spans(student, ["w1 w2"], [context])[0]
    finally:
        handle.remove()
    assert answer in context
    windows = torch.cat(seen)
    assert len(windows) > 2
    assert windows.shape[1] <= 32
    ids = student.tokenizer(context, add_special_tokens=False)["input_ids"]
    assert set(ids) <= set(windows.flatten().tolist())


def test_no_answer_is_one_if_some_question_has_none() -> None:
    rows, student = asked(1, 12), student_of(NAME)
    given = [r["question"] for r in rows], [r["context"] for r in rows]
    always, maybe = spans(student, *given), spans(student, *given, may_be_empty=True)
    assert "" not in always
    for sure, one, question, context in zip(always, maybe, *given, strict=True):
        logits = student.predict([(question, context)])[0]
        read = student.tokenizer(question, context)
        inside = torch.tensor([part == 1 for part in read.sequence_ids(0)])
        nothing = float(logits[0].sum()) > best_span(logits, inside)[0]
        assert one == ("" if nothing else sure)
    without = [row | {"answers": []} for row in rows]
    expected = sum(one == "" for one in maybe) / len(maybe)
    assert result(scores.exact_match(without), student).value == pytest.approx(expected)
