"""Scores of classifiers and regressions, against scikit-learn and scipy on plain logits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error

from protege.objectives import Score, scores
from protege.spaces import BadInput, Student
from tests.objectives.scores.students import Row, result, sentences, student_of
from tests.tiny import ZOO, Case

SEEDS = st.integers(0, 10**6)
COUNTS = st.integers(8, 40)


def labelled(seed: int, count: int) -> list[Row]:
    labels = np.random.default_rng(seed).integers(0, 3, count)
    return [
        {"text": one, "label": int(label)}
        for one, label in zip(sentences(seed, count), labels, strict=True)
    ]


def logits(student: Student, rows: list[Row]) -> Any:
    """By transformers alone, one text at a time."""
    reads = [student.tokenizer(row["text"], return_tensors="pt") for row in rows]
    with torch.no_grad():
        return torch.cat([student.model(**read).logits for read in reads]).numpy()


REFERENCES: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": accuracy_score,
    "macro_f1": lambda true, found: f1_score(true, found, average="macro", zero_division=0.0),
    "matthews": matthews_corrcoef,
}


@pytest.mark.parametrize("metric", REFERENCES)
@given(seed=SEEDS, count=COUNTS)
def test_classes_are_counted_as_by_scikit_learn(metric: str, seed: int, count: int) -> None:
    rows, student = labelled(seed, count), student_of("bert-texts")
    made: Callable[..., Score] = getattr(scores, metric)
    found = logits(student, rows).argmax(-1)
    expected = REFERENCES[metric]([row["label"] for row in rows], found)
    one = result(made(rows), student)
    assert one.value == pytest.approx(expected, abs=1e-9)
    assert made(rows).name == metric


def test_accuracy_has_a_value_for_each_example() -> None:
    rows, student = labelled(0, 12), student_of("bert-texts")
    right = logits(student, rows).argmax(-1) == [row["label"] for row in rows]
    assert result(scores.accuracy(rows), student).examples == tuple(right.astype(float))


def test_classes_may_be_named() -> None:
    rows, student = labelled(1, 20), student_of("bert-texts")
    named = [row | {"label": f"LABEL_{row['label']}"} for row in rows]
    expected = result(scores.accuracy(rows), student)
    assert result(scores.accuracy(named), student) == expected
    # a dataset that numbers the same names otherwise
    order = ["LABEL_2", "LABEL_0", "LABEL_1"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=order)}
    )
    again = datasets.Dataset.from_list(
        [row | {"label": order.index(row["label"])} for row in named], features=features
    )
    assert result(scores.accuracy(again), student) == expected


def test_pairs_and_images_are_read_too() -> None:
    rows, student = labelled(2, 9), student_of("bert-texts")
    paired = [row | {"other": one} for row, one in zip(rows, sentences(5, 9), strict=True)]
    read = student.predict([(row["text"], row["other"]) for row in paired]).argmax(-1)
    right = (read == torch.tensor([row["label"] for row in rows])).double().mean()
    assert result(scores.accuracy(paired, pair="other"), student).value == pytest.approx(right)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 12, 12, 3), dtype=np.uint8)
    seer = student_of("vit-image-classification")
    seen = seer.predict(list(pixels)).argmax(-1).tolist()
    images = [{"image": one, "label": label} for one, label in zip(pixels, seen, strict=True)]
    assert result(scores.accuracy(images, image="image"), seer).value == 1


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    rows = [{"text": "w1", "label": "sports"}]
    with pytest.raises(BadInput, match=r"label 'sports': the teacher's classes are \{'LABEL_0'"):
        scores.accuracy(rows).function(student_of("bert-texts"))


AVERAGES = ["micro", "macro", "weighted", "samples"]


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=20)  # each has a jackknife by scikit-learn
@given(seed=SEEDS, count=COUNTS)
def test_several_classes_are_counted_as_by_scikit_learn(
    average: Any, seed: int, count: int
) -> None:
    true = np.random.default_rng(seed).integers(0, 2, (count, 3))
    texts, student = sentences(seed, count), student_of("bert-texts")
    hot = [{"text": t, "label": row.tolist()} for t, row in zip(texts, true, strict=True)]
    listed = [row | {"label": np.flatnonzero(row["label"]).tolist()} for row in hot]
    found = 1 / (1 + np.exp(-logits(student, hot))) > 0.5
    expected = f1_score(true, found, average=average, zero_division=0.0)
    for score in (
        scores.multi_label_f1(hot, average=average, multi_hot=True),
        scores.multi_label_f1(listed, average=average),
    ):
        assert result(score, student).value == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def regression() -> Student:
    """A student that answers with one number."""
    own: Case = ZOO["bert-texts"]
    teacher = replace(own, fields={"num_labels": 1}).teacher()
    return teacher.student(teacher.architecture)


@given(seed=SEEDS, count=COUNTS)
def test_numbers_are_compared_as_by_scipy_and_scikit_learn(
    regression: Student, seed: int, count: int
) -> None:
    true = np.random.default_rng(seed).normal(size=count)
    texts = sentences(seed, count)
    rows = [{"text": t, "label": float(y)} for t, y in zip(texts, true, strict=True)]
    found = regression.predict(texts).double().numpy()[:, 0]
    squared = result(scores.mean_squared_error(rows), regression)
    assert squared.value == pytest.approx(mean_squared_error(true, found), abs=1e-9)
    assert max(squared.examples) <= 0
    correlated = result(scores.pearson(rows), regression)
    assert correlated.value == pytest.approx(pearsonr(true, found).statistic, abs=1e-9)


def test_a_regression_has_one_output_and_numbers_to_compare_with() -> None:
    assert scores.mean_squared_error(labelled(0, 9)).direction == "minimize"
    with pytest.raises(BadInput, match=r"^outputs of shape \(3,\): expected num_labels=1$"):
        scores.pearson(labelled(0, 9)).function(student_of("bert-texts"))
    with pytest.raises(BadInput, match=r"^column for label: not all values are numbers"):
        scores.pearson([{"text": "w1", "label": "high"}])
    with pytest.raises(BadInput, match=r"^column for label: not all values are finite numbers$"):
        scores.pearson([{"text": "w1", "label": float("nan")}])
