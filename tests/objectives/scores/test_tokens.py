"""Entities are counted as by seqeval, words by their first token."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score

from protege.objectives import scores
from protege.objectives.scores.tokens import tagged
from protege.spaces import BadInput, Student
from tests.objectives.scores.students import Row, result
from tests.tiny import ZOO

TAGS = ["O", "B-PER", "I-PER"]


@pytest.fixture(scope="module")
def tagger() -> Student:
    """A student whose classes are tags of entities."""
    named = {"id2label": dict(enumerate(TAGS)), "label2id": {n: i for i, n in enumerate(TAGS)}}
    teacher = replace(ZOO["bert-tokens"], fields=named).teacher()
    return teacher.student(teacher.architecture)


def rows_of(seed: int, count: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 12, count)
    words = [[f"w{n}" for n in generator.integers(0, 91, length)] for length in lengths]
    return [
        {"tokens": row, "tags": [TAGS[n] for n in generator.integers(0, 3, len(row))]}
        for row in words
    ]


@given(seed=st.integers(0, 10**6), count=st.integers(3, 25))
def test_entities_are_counted_as_by_seqeval(tagger: Student, seed: int, count: int) -> None:
    rows = rows_of(seed, count)
    read = [row["tokens"] for row in rows]
    found = [tagger.predict([row])[0, 1:-1].argmax(-1).tolist() for row in read]
    said = [[TAGS[n] for n in row] for row in found]
    expected = f1_score([row["tags"] for row in rows], said, zero_division=0)
    assert result(scores.token_f1(rows), tagger).value == pytest.approx(expected, abs=1e-9)
    numbered = [row | {"tags": [TAGS.index(one) for one in row["tags"]]} for row in rows]
    assert result(scores.token_f1(numbered), tagger) == result(scores.token_f1(rows), tagger)


def test_words_that_are_not_read_are_outside(tagger: Student) -> None:
    words = [f"w{n % 91}" for n in range(50)]
    found = tagged(tagger, [words])[0]
    assert found[:30] == tagged(tagger, [words[:30]])[0]
    assert found[30:] == ["O"] * 20  # 32 tokens fit, two of them special


BROKEN: list[tuple[Any, str]] = [
    (
        {"tokens": ["w1"], "tags": ["O", "O"]},
        "columns 'tokens' and 'tags': expected lists of equal",
    ),
    ({"tokens": "w1", "tags": ["O"]}, "columns 'tokens' and 'tags': expected lists of equal"),
]


@pytest.mark.parametrize(("row", "message"), BROKEN)
def test_words_and_classes_must_match(row: Row, message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}"):
        scores.token_f1([row])


def test_an_unknown_class_number_is_refused(tagger: Student) -> None:
    score = scores.token_f1([{"tokens": ["w1"], "tags": [7]}])
    with pytest.raises(BadInput, match=r"^label 7: the classes are O, B-PER, I-PER$"):
        score.function(tagger)
