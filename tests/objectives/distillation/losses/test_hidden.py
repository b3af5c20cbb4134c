"""Hidden states of students that keep no channel; and what counts as a pass, and as a token."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close

from protege.objectives import AttentionRelations, HiddenMSE
from protege.objectives.distillation.losses.hooked import HiddenLoss
from protege.spaces import Calibration, LayerMap, ProtegeError, Rotation, Student, Teacher, Uniform
from tests.objectives.distillation.losses.test_hooked import (
    lost,
    mask_of,
    run,
    smaller,
    watching,
)
from tests.tiny import inputs_of
from tests.zoo import teacher_of

every_loss = pytest.mark.parametrize(
    "loss", [HiddenMSE(), AttentionRelations()], ids=["mse", "qkv"]
)
PAIRS = ["t5-text2text-generation", "bart-text2text-generation", "t5-text-classification"]


def turned(teacher: Teacher) -> Student:
    sizes = teacher.architecture.scaled(
        layers=0.5,
        hidden=0.5,
        multiple_of=4,
        layer_policy=Uniform(),
        width_policy=Rotation(),
        healing="none",
    )
    known = Calibration.of(teacher, [inputs_of(teacher)], [Rotation()], "none")
    return teacher.student(sizes, known)


def drawn(teacher: Teacher) -> Student:
    return teacher.fresh(teacher.architecture.scaled(layers=0.5, hidden=0.5, multiple_of=4))


@pytest.mark.parametrize("made", [turned, drawn])
def test_without_kept_channels_a_projection_begins_orthonormal(
    made: Callable[[Teacher], Student],
) -> None:
    teacher = teacher_of("llama-causal-grouped")
    student = made(teacher)
    with watching(HiddenMSE(), student, teacher) as watch:
        (weight,) = watch.parameters()
    columns = weight.detach()
    assert columns.shape == (24, 12)
    assert_close(columns.T @ columns, torch.eye(columns.shape[1]))
    assert lost(HiddenMSE(), student, teacher) > 1e-3


@every_loss
def test_a_drawn_student_is_matched_as_its_policy_says(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    sizes = teacher.architecture.scaled(layers=0.5, layer_policy=LayerMap([1, 3]))
    cut, fresh = teacher.student(sizes), teacher.fresh(sizes)
    fresh.model.load_state_dict(cut.model.state_dict())
    assert lost(loss, fresh, teacher) == lost(loss, cut, teacher)


@every_loss
@pytest.mark.parametrize("name", PAIRS)
def test_padding_of_either_side_of_a_pair_tells_nothing(name: str, loss: HiddenLoss) -> None:
    """Of the decoder's too, though the training loop hands over the encoder's mask."""
    teacher = teacher_of(name)
    student, short = smaller(teacher), inputs_of(teacher)
    sides = {"encoder": 0, "decoder": 9 - 7}  # as wide as the encoder: its mask would fit
    alike = {
        key: pad(value, (0, sides["decoder" if key.startswith("decoder") else "encoder"]))
        for key, value in short.items()
    }
    first = lost(loss, student, teacher, short)
    assert lost(loss, student, teacher, alike) == pytest.approx(first, rel=1e-4)


@every_loss
def test_passes_in_which_a_student_is_judged_do_not_count(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    few = {name: value[:1] for name, value in inputs.items()}
    expected = lost(loss, student, teacher)
    with watching(loss, student, teacher) as watch:
        with torch.inference_mode():
            student.model(**few)
        with pytest.raises(ProtegeError, match="the student has not run since the last loss"):
            watch.loss(mask_of(few))
        run(student, teacher, inputs)
        copied = deepcopy(student.model)
        assert float(watch.loss(mask_of(inputs)).detach()) == expected
    assert isinstance(copied, type(student.model))


def test_a_batch_of_padding_alone_is_no_error() -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    for loss in (HiddenMSE(), AttentionRelations()):
        with watching(loss, student, teacher) as watch:
            run(student, teacher, inputs)
            assert float(watch.loss(torch.zeros_like(mask_of(inputs))).detach()) == 0
