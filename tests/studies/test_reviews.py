"""The teacher of film reviews learns from nothing that its students are judged on."""

from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Distillation, Texts
from protege.spaces import Task
from studies.reviews_cpu import CLASSES, fine_tuned, learnt, product_reviews, reviews
from studies.snippets import snippets


def few() -> Distillation:
    """Sixty-four sentences, as the study would ask them."""
    found = [(one.text, one.label) for one in list(reviews())[:64]]
    sizes: dict[str, Any] = {
        "steps": 2,
        "batch_size": 8,
        "max_tokens": 16,
        "selection": 8,
        "held_out": 8,
    }
    return Distillation(Texts.of(*zip(*found, strict=True)), **sizes)


def test_a_sentence_is_liked_if_most_people_liked_it() -> None:
    rated = {one.text: one.rating for one in snippets("movieReviewSnippets")}
    found = list(reviews())
    assert {one.label for one in found} == set(CLASSES)
    assert all((one.label == "liked") == (rated[one.text] > 0) for one in found)


def test_the_teacher_learns_from_the_students_part_alone() -> None:
    asked = few()
    mine = {one.identity for one in learnt(asked)}
    parts = asked.data.split(asked.sequences_seen, asked.selection, asked.held_out)
    assert {one.identity for one in parts.train} < mine
    assert mine.isdisjoint(one.identity for one in [*parts.selection, *parts.held_out])
    assert len(mine) + 16 == len({one.identity for one in asked.data})


@pytest.mark.slow
def test_the_teacher_is_fine_tuned_once(tmp_path: Path) -> None:
    folder, asked = tmp_path / "teacher", few()
    teacher = fine_tuned(folder, asked)
    assert teacher.task is Task.TEXTS
    assert teacher.config.id2label == dict(enumerate(CLASSES))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert fine_tuned(folder, asked).fingerprint == teacher.fingerprint
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_no_product_review_is_among_the_film_reviews() -> None:
    found = product_reviews()
    assert {one["label"] for one in found} == set(CLASSES)
    assert {one["text"] for one in found}.isdisjoint(one.text for one in reviews())
