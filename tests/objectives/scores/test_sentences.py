"""Similarity and retrieval by vectors, against scipy and scikit-learn on plain vectors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity

from protege.objectives import scores
from protege.spaces import BadInput
from tests.objectives.scores.students import Row, result, sentences, student_of
from tests.tiny import CASES

ENCODERS = ["bert-sentences", "llama-sentences"]
SEEDS = st.integers(0, 10**6)


def pairs(seed: int, count: int) -> list[Row]:
    gold = np.random.default_rng(seed).integers(0, 11, count) / 2
    sides = sentences(seed, count), sentences(seed + 1, count)
    return [
        {"sentence1": one, "sentence2": two, "score": float(value)}
        for one, two, value in zip(*sides, gold, strict=True)
    ]


@pytest.mark.parametrize("name", ENCODERS)
@given(seed=SEEDS, count=st.integers(5, 30))
def test_spearman_is_that_of_scipy(name: str, seed: int, count: int) -> None:
    rows, student = pairs(seed, count), student_of(name)
    first, second = (
        student.encode([row[side] for row in rows]).double().numpy()
        for side in ("sentence1", "sentence2")
    )
    similarity = cosine_similarity(first, second).diagonal()
    expected = spearmanr(similarity, [row["score"] for row in rows]).statistic
    found = result(scores.spearman(rows), student)
    assert found.value == pytest.approx(expected, abs=1e-9)


def test_spearman_has_an_error_and_groups_for_comparison() -> None:
    found = result(scores.spearman(pairs(3, 40)), student_of(ENCODERS[0]))
    assert 0 < found.spread < 0.5
    assert len(found.examples) == 40
    assert float(found.details["low"]) < found.value < float(found.details["high"])


def corpus(seed: int, queries: int, count: int) -> tuple[list[Row], list[Row]]:
    generator = np.random.default_rng(seed)
    documents = [{"id": n, "text": one} for n, one in enumerate(sentences(seed, count))]
    asked = []
    for one in sentences(seed + 1, queries):
        chosen = generator.choice(count, generator.integers(1, count + 1), replace=False)
        graded = {str(n): int(generator.integers(1, 4)) for n in chosen}
        asked.append({"query": one, "relevant": graded})
    return asked, documents


@given(seed=SEEDS, queries=st.integers(1, 5), count=st.integers(2, 30), k=st.integers(1, 12))
def test_ndcg_is_that_of_scikit_learn(seed: int, queries: int, count: int, k: int) -> None:
    asked, documents = corpus(seed, queries, count)
    student = student_of(ENCODERS[0])
    rows, columns = (
        student.encode([row[name] for row in part]).double().numpy()
        for part, name in ((asked, "query"), (documents, "text"))
    )
    true = [[row["relevant"].get(str(n), 0) for n in range(count)] for row in asked]
    expected = ndcg_score(true, cosine_similarity(rows, columns), k=k)
    score = scores.ndcg(asked, documents, k=k)
    assert score.name == f"ndcg_{k}"
    found = result(score, student)
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert len(found.examples) == queries


def test_documents_may_be_embedded_by_the_teacher() -> None:
    teacher = CASES["bert-sentences"].teacher()
    asked, documents = corpus(0, 5, 20)
    small = teacher.student(teacher.architecture.scaled(layers=0.5))
    both = scores.ndcg(asked, documents)
    mixed = scores.ndcg(asked, documents, documents_by=teacher)
    queries = small.encode([row["query"] for row in asked])
    whole = teacher.student(teacher.architecture)
    texts = whole.encode([row["text"] for row in documents])
    true = [[row["relevant"].get(str(n), 0) for n in range(20)] for row in asked]
    expected = ndcg_score(true, (queries @ texts.T).double().numpy(), k=10)
    assert result(mixed, small).value == pytest.approx(expected, abs=1e-6)
    assert result(mixed, small).value != result(both, small).value
    assert result(mixed, whole).value == pytest.approx(result(both, whole).value, abs=1e-9)


REFUSED: list[tuple[Any, Any, str]] = [
    ([{"query": "w1", "relevant": "x"}], [0, 1], "relevant document 'x': not among the documents"),
    ([{"query": "w1", "relevant": []}], [0, 1], "a query without a relevant document; remove it"),
    ([{"query": "w1", "relevant": 0}], [0], "1 documents: expected two or more with distinct ids"),
    ([{"query": "w1", "relevant": 0}], [0, 0], "2 documents: expected two or more with distinct"),
]


@pytest.mark.parametrize(("queries", "ids", "message"), REFUSED)
def test_what_cannot_be_ranked_is_refused(queries: Any, ids: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}"):
        scores.ndcg(queries, [{"id": one, "text": "w1"} for one in ids])


def test_gold_scores_must_be_numbers() -> None:
    rows = [{"sentence1": "w1", "sentence2": "w2", "score": "high"}]
    with pytest.raises(BadInput, match=r"^column for score: not all values are numbers"):
        scores.spearman(rows)
