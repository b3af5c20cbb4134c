"""Students of other families of texts: their sizes, what the teacher gives them, their files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from protege.spaces import OtherFamily, SearchSpace, Student, Task, Teacher, Unsupported
from tests.tiny import CASES, VOCABULARY, texts

ALL = ("convbert", "fnet", "text_cnn", "text_mixer", "static")
RATIOS = {"hidden": 0.5, "multiple_of": 4}


def teacher_of(task: Task = Task.SENTENCES) -> Teacher:
    case = CASES["bert-sentences" if task is Task.SENTENCES else "bert-texts"]
    return replace(case, fields={"layer_norm_eps": 1e-5}).teacher()


def made(teacher: Teacher, kind: str, **ratios: float) -> Student:
    given = {"layers": 0.5, **ratios} if kind != "static" else ratios
    space = SearchSpace(multiple_of=4, others=[OtherFamily(kind, **given)]).of(teacher)
    (found,) = (one for one in space if one.model_type == kind)
    return teacher.student(found)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("hidden", [1.0, 0.5])
def test_a_student_has_the_sizes_and_the_embeddings_of_its_declaration(
    kind: str, hidden: float
) -> None:
    teacher = teacher_of()
    student = made(teacher, kind, hidden=hidden)
    own = student.architecture
    assert own.hidden_size == student.model.config.hidden_size == 24 * hidden
    assert own.num_hidden_layers == (0 if kind == "static" else 2)
    skeleton = teacher.blueprint(own).skeleton()
    assert skeleton.num_parameters() == student.model.num_parameters()
    last: Any = student.embedder.projection if student.embedder else None
    assert teacher.projection_size(own) == sum(one.numel() for one in last.parameters())
    assert student.encode(texts(3)).shape == (3, 24)
    assert any("embedding" in name for name in student.manifest()["from_teacher"])
    again = made(teacher, kind, hidden=hidden)
    for one, other in zip(student.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [one for one in ALL if one != "static"])
def test_embeddings_are_the_teachers_or_their_best_projection(kind: str) -> None:
    teacher = teacher_of()
    embedding: Any = teacher.model.get_input_embeddings()
    theirs = embedding.weight
    same: Any = made(teacher, kind).model.get_input_embeddings()
    assert torch.equal(same.weight, theirs)
    student = made(teacher, kind, hidden=0.5)
    assert student.embedder is not None
    assert student.embedder.projection is not None
    table: Any = student.model.get_input_embeddings()
    back = student.embedder.projection.weight
    with torch.no_grad():
        missed = float((theirs - table.weight @ back.T).square().sum())
    least = float(torch.linalg.svdvals(theirs.detach())[12:].square().sum())
    assert missed == pytest.approx(least, rel=1e-3)  # Eckart and Young: no rank 12 is closer


@pytest.mark.parametrize("kind", ALL)
def test_padding_changes_nothing(kind: str) -> None:
    student = made(teacher_of(), kind)
    one, many = texts(6)[0], texts(6)
    assert torch.allclose(student.encode([one])[0], student.encode(many)[0], atol=1e-5)


LOADED = """
import json, sys
from sentence_transformers import SentenceTransformer
own = len(sys.argv) > 2
model = SentenceTransformer(sys.argv[1], trust_remote_code=own)
assert "protege" not in sys.modules
# one at a time: some of these models read padding
print(json.dumps([model.encode(text).tolist() for text in json.load(sys.stdin)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_a_saved_student_is_loaded_without_protege(kind: str, tmp_path: Path) -> None:
    student = made(teacher_of(), kind, hidden=0.5)
    folder = student.save(tmp_path / "student")
    remote = ["own"] if kind.startswith("text_") else []
    asked = texts(5)
    found = subprocess.run(
        [sys.executable, "-c", LOADED, str(folder), *remote],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    vectors = torch.tensor(json.loads(found.stdout.splitlines()[-1]))
    assert torch.allclose(vectors, student.encode(asked), atol=1e-5)


def test_a_smaller_vocabulary_keeps_the_first_tokens() -> None:
    teacher = teacher_of()
    student = made(teacher, "static", vocab=0.5)
    kept = student.kept.vocab
    assert kept is not None
    assert len(kept) == student.architecture.vocab_size < VOCABULARY
    assert student.encode(texts(3)).shape == (3, 24)


@pytest.mark.parametrize("kind", ["convbert", "fnet"])
def test_classifiers_have_the_classes_of_their_teacher(kind: str) -> None:
    teacher = teacher_of(Task.TEXTS)
    student = made(teacher, kind)
    assert student.predict(texts(3)).shape == (3, 3)
    assert student.model.config.id2label == teacher.config.id2label


def test_a_family_without_a_model_for_the_task_is_refused() -> None:
    teacher = teacher_of(Task.TEXTS)
    with pytest.raises(Unsupported, match=r"'static' .*no model for text-classification.*convbert"):
        SearchSpace(others=[OtherFamily("static")]).of(teacher)
