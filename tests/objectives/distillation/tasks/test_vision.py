"""Image encoders are judged by their vectors, of the teacher's length whatever their width."""

from pathlib import Path
from typing import Any

import pytest
import torch

from protege.objectives import Example, Retention
from protege.objectives.data import Picture
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.vision import VisionTask
from protege.spaces import BadInput, Cache, Task, Teacher
from tests.objectives.candidates import candidate, itself
from tests.objectives.distillation.tasks.kinds import KINDS, drawn
from tests.tiny import ZOO, save

NAMES = [name for name in KINDS if name.startswith("image by")]
TASK = VisionTask()


@pytest.mark.parametrize("name", NAMES)
def test_the_vector_is_the_class_token_or_the_poolers(name: str) -> None:
    teacher = KINDS[name].teacher()
    inputs = TASK.inputs(teacher, [Example(Picture.of(one)) for one in drawn(6)], 16)
    batch, module = inputs.batch(range(6)), teacher.embedder()
    assert module is not None
    with torch.inference_mode():
        output: Any = teacher.model(**batch.inputs)
        found = TASK.answer(module, batch)
    pooled = "siglip" in name or "dinov2" in name
    torch.testing.assert_close(found, output.pooler_output if pooled else output[0][:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_teacher_is_pooled_as_here(name: str, tmp_path: Path) -> None:
    teacher = KINDS[name].teacher()
    loaded = Teacher.load(save(teacher, tmp_path))
    assert loaded.pooling == teacher.pooling
    assert isinstance(distillation_task(loaded), VisionTask)


@pytest.mark.parametrize("name", NAMES)
def test_a_narrower_student_makes_vectors_of_the_teachers_length(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    given = KINDS[name]
    teacher = given.teacher()
    start = candidate(teacher, cache, given.distillation(), hidden=0.5).built()
    inputs = TASK.inputs(teacher, [Example(Picture.of(one)) for one in drawn(6)], 16)
    with torch.inference_mode():
        found = TASK.answer(start.student.module, inputs.batch(range(6)))
    assert found.shape == (6, teacher.architecture.hidden_size)
    loaded = Teacher.load(start.student.save(tmp_path))
    assert loaded.task is Task.IMAGE_FEATURES
    module = loaded.embedder()
    assert module is not None
    with torch.inference_mode():
        assert torch.equal(TASK.answer(module, inputs.batch(range(6))), found)


def test_texts_are_refused(cache: Cache) -> None:
    given = KINDS["score of a text"]
    teacher = ZOO["vit-image-feature-extraction"].teacher()
    with pytest.raises(BadInput, match="a text; a teacher of images needs images; give Images"):
        Retention().measure(itself(teacher, cache, given.distillation()).built())
