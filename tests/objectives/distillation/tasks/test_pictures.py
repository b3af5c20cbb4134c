"""Images are asked as the teacher's own processor makes them, kept in memory or not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protege.objectives import Distillation, Example, Images, Retention
from protege.objectives.data import Picture
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.pictures import ImageInputs
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.search.front.confirming import confirmed
from protege.spaces import BadInput, Cache, Task, Teacher
from protege.spaces.models.batches import IMAGE
from tests.objectives.candidates import completed, half, itself, retained
from tests.objectives.distillation.tasks.kinds import drawn
from tests.tiny import ZOO

NAMES = [name for name, case in ZOO.items() if case.task is Task.IMAGES]
LESSON = ClassTask(images=True)


SHORT = Distillation(Images.of(drawn()), 4, 8, selection=15)


def examples(count: int = 20, label: int | None = None) -> list[Example]:
    return [Example(Picture.of(one), label) for one in drawn(count)]


def asked(teacher: Teacher, count: int = 20) -> ImageInputs:
    found = LESSON.inputs(teacher, examples(count), 16)
    assert isinstance(found, ImageInputs)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_model_sees_what_its_processor_makes_of_an_image(name: str) -> None:
    teacher = ZOO[name].teacher()
    images = [Picture.of(one).open() for one in drawn(20)]
    expected = teacher.processor(images=images, return_tensors="pt")["pixel_values"]
    batch = asked(teacher).batch([3, 17, 4])
    assert torch.equal(batch.inputs["pixel_values"], expected[[3, 17, 4]])
    assert batch.rows.tolist() == batch.numbers.tolist() == [3, 17, 4]
    assert batch.mask.shape == (3, 1)
    with torch.inference_mode():
        found = LESSON.answer(teacher.model, batch)
        assert torch.equal(found, teacher.model(pixel_values=expected[[3, 17, 4]]).logits)


def test_images_that_do_not_fit_are_made_batch_by_batch() -> None:
    kept = asked(ZOO["vit-image-classification"].teacher())
    assert kept.pixels is not None
    fits = kept.pixels.nbytes
    exactly, too_many = (replace(kept, kept_bytes=limit) for limit in (fits, fits - 1))
    assert exactly.pixels is not None
    assert too_many.pixels is None
    for one, other in zip(kept.in_order(6), too_many.in_order(6), strict=True):
        assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])
    assert torch.equal(kept.checks, too_many.checks)
    assert kept.fingerprint == too_many.fingerprint


def test_an_image_costs_what_a_calibration_takes_it_for() -> None:
    inputs = asked(ZOO["vit-image-classification"].teacher())
    assert set(inputs.lengths.tolist()) == {IMAGE}
    assert len(inputs.up_to(5 * IMAGE)) == 5
    assert len(inputs.ids) == 0


def test_the_first_images_are_a_store_of_their_own() -> None:
    teacher = ZOO["vit-image-classification"].teacher()
    first, alone = asked(teacher).first(7), asked(teacher, 7)
    assert first.fingerprint == alone.fingerprint
    assert first.rows == len(first) == 7
    assert torch.equal(first.checks, alone.checks)


def changed(what: str) -> TaskInputs:
    teacher, given = ZOO["vit-image-classification"].teacher(), examples(3, label=0)
    if what == "image":
        given[1] = Example(Picture.of(drawn(4)[3]), 0)
    if what == "label":
        given[1] = replace(given[1], label=1)
    if what == "processor":
        other = type(teacher.processor)(size={"height": 12, "width": 12}, do_normalize=False)
        teacher = replace(teacher, processor=other)
    return LESSON.inputs(teacher, given, 16)


@pytest.mark.parametrize("what", ["image", "label", "processor"])
def test_all_that_is_asked_is_in_the_fingerprint(what: str) -> None:
    assert changed(what).fingerprint != changed("").fingerprint
    assert changed("").fingerprint == changed("").fingerprint


def test_the_check_of_an_image_tells_it_from_others() -> None:
    same = changed("").checks == changed("image").checks
    assert same.tolist() == [True, False, True]


def labelled(teacher: Teacher, *, by_name: bool) -> Images:
    """Images of which every third is labelled with a class that the teacher does not see in it."""
    inputs = LESSON.inputs(teacher, [Example(Picture.of(one)) for one in drawn()], 16)
    with torch.inference_mode():
        logits = LESSON.answer(teacher.model, inputs.batch(range(60)))
    seen = logits.argmax(-1).tolist()
    labels = [number if at % 3 else (number + 1) % 3 for at, number in enumerate(seen)]
    named = [f"LABEL_{number}" for number in labels]
    return Images.of(drawn(), named if by_name else labels)


def test_with_labels_the_quality_is_accuracy(cache: Cache) -> None:
    teacher = ZOO["vit-image-classification"].teacher()
    found = [
        retained(itself(teacher, cache, replace(SHORT, data=labelled(teacher, by_name=by_name))))
        for by_name in (True, False)
    ]
    assert found[0] == found[1]
    assert found[0].value == 1.0
    # two of three labels were left as the teacher sees them
    assert found[0].details["teacher_accuracy"] == pytest.approx(2 / 3, abs=0.3)


def test_images_without_labels_have_none() -> None:
    assert set(asked(ZOO["vit-image-classification"].teacher()).labels.tolist()) == {NO_LABEL}


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_retains_all_of_itself(name: str, cache: Cache) -> None:
    teacher = ZOO[name].teacher()
    found = retained(itself(teacher, cache, SHORT))
    assert (found.value, found.spread) == (1.0, 0.0)
    assert distillation_task(teacher) == LESSON


@pytest.mark.parametrize("name", NAMES)
def test_a_student_learns_and_is_judged_the_same_when_loaded(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = ZOO[name].teacher()
    settings = replace(SHORT, steps=40, learning_rate=3e-3)
    run = completed(half(teacher, cache, settings))
    assert sum(run.losses[-5:]) < 0.9 * sum(run.losses[:5])
    student = run.published.candidate.student
    folder = student.save(tmp_path / "student")
    again = confirmed([Retention()], itself(teacher, cache, settings), folder)
    assert again["retention"] == run.published.measurements["retention"].value
    loaded = Teacher.load(folder, task=teacher.task)
    batch = asked(teacher).batch(range(20))
    with torch.inference_mode():
        both = [LESSON.answer(one, batch) for one in (loaded.model, student.module)]
    assert torch.equal(*both)


def test_a_text_is_no_image() -> None:
    teacher = ZOO["vit-image-classification"].teacher()
    with pytest.raises(
        BadInput, match="'w1': a text; a teacher of images needs images; give Images"
    ):
        LESSON.inputs(teacher, [Example("w1")], 16)
