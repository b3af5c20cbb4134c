"""Whatever the family and the head, a student computes what its teacher would with less."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import FAMILIES, Family, Mismatch, Student, Teacher, family_of
from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.students.builder import filled
from protege.spaces.students.cut import cut
from protege.spaces.students.selection import everything
from protege.spaces.vocabulary.renumbering import renumbered
from tests.spaces.choices import assert_near, axes_of, shuffled
from tests.tiny import CASES, ZOO, answer, inputs_of
from tests.zoo import FLOWS, READERS, marked, teacher_of


def whole_axes(name: str) -> set[str]:
    """The width, if the model is never cut along it."""
    return {"hidden"} if "hidden_size" in family_of(ZOO[name].model_type).whole else set()


ORDERS = [
    (name, axis)
    for name in FLOWS
    for axis in axes_of(family_of(ZOO[name].model_type))
    if axis not in {"vocab", *whole_axes(name)}
]
"""Flows with the axes that they have units of."""


def test_every_supported_model_type_has_tiny_teachers() -> None:
    covered = {case.model_type for case in ZOO.values()}
    assert covered == {name for family in FAMILIES for name in family.model_types}


def test_at_ratio_one_the_student_is_the_teacher_bit_for_bit(any_teacher: Teacher) -> None:
    teacher = any_teacher
    student = teacher.student(teacher.architecture.scaled())
    mine, theirs = student.model.state_dict(), teacher.model.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert torch.equal(answer(student), answer(teacher))
    teachers, students = teacher.config.to_dict(), student.model.config.to_dict()
    family = teacher.family
    # these say by name what the teacher's may leave to its class's defaults
    stated = {*family.written(teacher.architecture.sizes()), *family.reset, family.dense_layers}
    assert {n: students[n] for n in students if n not in stated} == {
        n: teachers[n] for n in teachers if n not in stated
    }


def check_order(teacher: Teacher, axis: str) -> None:
    """Check that a student of all units, those of one axis in another order, is its teacher."""
    kept = shuffled(teacher, axis)
    assert kept != everything(teacher.layout)
    student = teacher.student_of(teacher.architecture, kept)
    if axis == "hidden" and (embedder := teacher.embedder()) is not None:
        # vectors of texts are read off in the teacher's own order
        asked = inputs_of(teacher)
        assert student.embedder is not None
        with torch.inference_mode():
            assert_near(student.embedder(**asked), embedder(**asked))
        return
    expected = answer(teacher)
    if axis == "hidden" and expected.shape[-1] == teacher.architecture.hidden_size:
        expected = expected[..., list(kept.hidden)]
    assert_near(answer(student), expected)


@pytest.mark.parametrize(("name", "axis"), marked(ORDERS))
def test_the_order_of_units_does_not_matter(name: str, axis: str) -> None:
    check_order(teacher_of(name), axis)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in ZOO if name not in FLOWS and not whole_axes(name)]
)
def test_the_order_of_channels_does_not_matter_to_any_head(name: str) -> None:
    check_order(teacher_of(name), "hidden")


@pytest.mark.parametrize("name", marked(READERS))
def test_the_order_of_tokens_does_not_matter(name: str) -> None:
    teacher = teacher_of(name)
    kept, given = shuffled(teacher, "vocab"), inputs_of(teacher)
    tokens = kept.vocab or ()
    expected = answer(teacher, **given)
    # the model alone: no tokenizer has its tokens in any but their own order
    config = type(teacher.config)(**renumbered(teacher.config.to_dict(), tokens))
    model = filled(
        type(teacher.model), config, cut(teacher.model.state_dict(), teacher.layout, kept)
    )
    place = torch.tensor(tokens).argsort()
    moved = {name: place[ids] if "input_ids" in name else ids for name, ids in given.items()}
    found = answer(replace(teacher, model=model), **moved)
    if teacher.task.has_logits and expected.shape[-1] == len(tokens):
        expected = expected[..., list(tokens)]
    assert_near(found, expected)


@pytest.mark.parametrize("name", marked(READERS))
def test_a_student_of_fewer_tokens_answers_as_its_teacher_where_none_is_missing(name: str) -> None:
    teacher = teacher_of(name)
    student = teacher.student(teacher.architecture.scaled(vocab=0.5))
    kept = torch.tensor(student.kept.vocab)
    assert len(kept) == student.architecture.vocab_size == 48
    given = inputs_of(student)  # ids of the student's own
    theirs = {n: kept[ids] if n.endswith("input_ids") else ids for n, ids in given.items()}
    expected = answer(teacher, **theirs)
    if teacher.task.has_logits and expected.shape[-1] == teacher.architecture.vocab_size:
        expected = expected[..., kept]
    assert torch.equal(answer(student, **given), expected) or _nearly(student, given, expected)


def _nearly(student: Student, given: dict[str, Tensor], expected: Tensor) -> bool:
    """Whether only the order of sums differs: over fewer rows a product is cut up otherwise."""
    assert_close(answer(student, **given), expected, rtol=0, atol=1e-6)
    return True


def test_every_tensor_is_named_by_one_rule_that_fits_its_shape(any_teacher: Teacher) -> None:
    teacher = any_teacher
    whole = {"place", "label", "bucket", "channel", "one", "kernel", "mel", "colour", "height"}
    whole |= {"width", *teacher.family.as_hidden}
    assert [slot.name for slot in teacher.layout.slots] == list(teacher.model.state_dict())
    for slot in teacher.layout.slots:
        shape = teacher.model.state_dict()[slot.name].shape
        assert [sum(part.size for part in parts) for parts in slot.dimensions] == list(shape)
        units = {part.unit for parts in slot.dimensions for part in parts}
        assert units - set(SIZE_OF) <= whole, slot.name
        assert units & set(SIZE_OF) - {"kv_heads"} <= set(axes_of(teacher.family)), slot.name


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_no_rule_of_a_family_names_a_tensor_that_its_models_lack(family: Family) -> None:
    for kind in ("weight", "bias", "gate"):
        message = rf"'planted\.{kind}': expected one rule of the {family.name} .* found 0"
        with pytest.raises(Mismatch, match=message):
            family.rule(f"planted.{kind}")


@pytest.mark.parametrize("name", ["bert-masked", "t5-text2text-generation"])
def test_a_tensor_that_no_rule_names_is_an_error_that_names_it(name: str) -> None:
    for kind in ("weight", "bias", "gate"):
        teacher = ZOO[name].teacher()
        planted = nn.Module()
        planted.register_parameter(kind, nn.Parameter(torch.zeros(24)))
        teacher.model.base_model.add_module("planted", planted)
        with pytest.raises(Mismatch, match=rf"'planted\.{kind}': expected one rule .* found 0"):
            teacher.student(teacher.architecture.scaled(layers=0.5))


def test_a_tensor_of_another_shape_than_its_rule_says_is_an_error_that_names_it() -> None:
    teacher = CASES["llama"].teacher()
    layer: Any = teacher.model.get_submodule("layers.2.mlp")
    layer.up_proj = nn.Linear(24, 41, bias=False)
    with pytest.raises(Mismatch, match=r"'layers.2.mlp.up_proj.weight' of shape .* ffn x hidden"):
        teacher.student(teacher.architecture)


def test_units_that_do_not_fit_the_architecture_are_refused(teacher: Teacher) -> None:
    own = teacher.architecture
    wrong = "num_experts" if own.num_experts else "intermediate_size"
    fewer: dict[str, Any] = {wrong: own.units("experts" if own.num_experts else "ffn") - 2}
    smaller = replace(own, **fewer)
    if teacher.family.ffn_multiple:
        smaller = replace(own, intermediate_size=own.hidden_size)
    with pytest.raises(Mismatch, match=r"do not fit the student's sizes: see \S+"):
        teacher.student_of(smaller, everything(teacher.layout))


def test_training_a_student_leaves_the_teacher_as_it_was(teacher: Teacher) -> None:
    before = deepcopy(teacher.model.state_dict())
    for architecture in (teacher.architecture, teacher.architecture.scaled(layers=0.5)):
        student = teacher.student(architecture)
        with torch.no_grad():
            for parameter in student.module.parameters():
                parameter.add_(1.0)
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
