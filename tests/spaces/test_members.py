"""Whatever is drawn from a space, of whatever family and head, builds, runs, learns, is saved."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protege.spaces import (
    Activation,
    Architecture,
    BadInput,
    Calibration,
    Choice,
    Ends,
    First,
    Infeasible,
    Range,
    SearchSpace,
    Student,
    Teacher,
    Uniform,
)
from protege.spaces.architecture.sizes import RATIOS as SIZE_OF
from protege.spaces.students.selection import choose
from tests.tiny import ZOO, answer, inputs_of
from tests.zoo import marked, teacher_of

FIRST = {case.model_type: name for name, case in reversed(ZOO.items())}
TYPES = [
    pytest.param(ZOO[one.values[0]].model_type, marks=one.marks) for one in marked(FIRST.values())
]
RATIO = st.sampled_from([0.01, 0.1, 0.25, 0.4, 0.5, 0.7, 0.9, 1.0])
RATIOS = st.one_of(
    RATIO,
    st.lists(RATIO, min_size=1, max_size=2).map(lambda ratios: Choice(*ratios)),
    st.tuples(RATIO, RATIO).map(sorted).map(lambda ends: Range(*ends)),
)


@cache
def calibration_of(name: str) -> Calibration:
    teacher = teacher_of(name)
    return Calibration.measured(teacher, [inputs_of(teacher)])


def knobs_of(teacher: Teacher) -> list[str]:
    """The ratios that the teacher's family knows and that it has something of."""
    own = teacher.architecture
    return [n for n, s in SIZE_OF.items() if s in teacher.family.knobs and getattr(own, s)]


Drawn = tuple[str, SearchSpace, Architecture]


def drawn_from(names: list[str], data: st.DataObject) -> Drawn:
    """A teacher, a space over it and one of its members."""
    name = data.draw(st.sampled_from(names))
    teacher = teacher_of(name)
    knobs = data.draw(st.sets(st.sampled_from(knobs_of(teacher)), max_size=3))
    declared: dict[str, Any] = {knob: data.draw(RATIOS) for knob in sorted(knobs)}
    declared["layer_policy"] = data.draw(st.sampled_from([Ends(), Choice(Uniform(), First())]))
    declared["width_policy"] = data.draw(
        st.sampled_from([Activation(), Choice(Activation(), First())])
    )
    # torch multiplies a mixture's experts only where rows are of 16 bytes
    multiples = [4, 8, 16] if teacher.architecture.num_experts else [1, 2, 4, 8, 16]
    multiple_of = data.draw(st.sampled_from(multiples))
    space = SearchSpace(**declared, healing="none", multiple_of=multiple_of)
    try:
        bound = space.of(teacher)
    except BadInput:  # nothing but the teacher itself
        bound = SearchSpace(layers=Choice(0.5)).of(teacher, has_data=False)
    return name, bound, data.draw(st.sampled_from(bound.members))


def cases_of(model_type: str) -> list[str]:
    return [name for name, case in ZOO.items() if case.model_type == model_type]


@pytest.mark.parametrize("model_type", TYPES)
@given(data=st.data())
@settings(max_examples=10)
def test_every_member_has_sizes_that_the_family_takes(model_type: str, data: st.DataObject) -> None:
    name, space, member = drawn_from(cases_of(model_type), data)
    teacher = teacher_of(name)
    own = teacher.architecture
    assert member.head_dim == own.head_dim
    assert member.num_attention_heads % member.num_key_value_heads == 0
    for size, value in member.sizes().items():
        assert 1 <= value <= own.sizes()[size]
    if member not in space.baselines:
        for size in ("hidden_size", "vocab_size"):
            value = member.sizes().get(size, 0)
            assert value == own.sizes().get(size, 0) or value % space.multiple_of == 0
    if teacher.family.heads_follow_hidden:
        assert member.hidden_size == member.num_attention_heads * member.head_dim
    assert member.num_experts >= member.num_experts_per_tok
    assert teacher.blueprint(member).configuration().num_hidden_layers == member.num_hidden_layers


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma2", "phi3", "mixtral"])
@given(data=st.data())
@settings(max_examples=20)
def test_key_value_groups_are_kept_whole(model_type: str, data: st.DataObject) -> None:
    name, _, member = drawn_from(cases_of(model_type), data)
    teacher = teacher_of(name)
    own = teacher.architecture
    kept = choose(teacher.layout, member, calibration_of(name))
    group = own.num_attention_heads // own.num_key_value_heads
    smaller = member.num_attention_heads // member.num_key_value_heads
    for layer in kept.stacks["decoder"]:
        heads: Any = layer.units["heads"]
        groups: Any = layer.units["kv_heads"]
        assert [head // group for head in heads] == [g for g in groups for _ in range(smaller)]


@pytest.mark.parametrize("model_type", TYPES)
@given(data=st.data())
@settings(max_examples=5)
def test_every_member_builds_runs_learns_and_is_saved(model_type: str, data: st.DataObject) -> None:
    name, _, member = drawn_from(cases_of(model_type), data)
    teacher = teacher_of(name)
    student = teacher.student(member, calibration_of(name))
    skeleton = teacher.blueprint(member).skeleton()
    assert student.model.num_parameters() == skeleton.num_parameters()
    before, after = learnt(student)
    assert after < before
    with TemporaryDirectory() as folder:
        loaded = type(teacher.model).from_pretrained(student.save(Path(folder))).state_dict()
        mine = student.model.state_dict()
        assert all(torch.equal(mine[tensor], loaded[tensor]) for tensor in mine)


def learnt(student: Student) -> tuple[float, float]:
    """The size of the answer before and after one small step that is to make it smaller."""
    given = inputs_of(student)
    loss = size(student, given)
    loss.backward()
    trained = [p for p in student.model.parameters() if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in trained if p.grad is not None]).norm()
    with torch.no_grad():
        for parameter in trained:
            assert parameter.grad is not None
            parameter.sub_(1e-4 * parameter.grad / norm)
        return loss.item(), size(student, given).item()


def size(student: Student, given: dict[str, Tensor]) -> Tensor:
    output: Tensor = student.model(**given)[0]
    return output.double().square().sum()


def test_each_knob_of_a_teacher_makes_a_student_that_answers(teacher: Teacher) -> None:
    for knob in knobs_of(teacher):
        ratio: Any = {knob: 0.5}
        student = teacher.student(teacher.architecture.scaled(**ratio))
        assert answer(student).isfinite().all(), knob


def test_a_knob_that_a_teacher_lacks_is_infeasible(teacher: Teacher) -> None:
    why = "has no head_dim of its own|keeps all of|has no .* to take a ratio of|this model"
    for knob in SIZE_OF.keys() - {*knobs_of(teacher)}:
        ratio: Any = {knob: 0.5}
        with pytest.raises(Infeasible, match=f"^{teacher.architecture.model_type}:? ({why})"):
            teacher.architecture.scaled(**ratio)
