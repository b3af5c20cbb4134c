"""Whatever is drawn from a space, of whatever family and head, builds, learns and is saved."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from protege.objectives import Distillation
from protege.objectives.distillation.distillation import remember
from protege.objectives.distillation.lesson import Lesson
from protege.objectives.retention import lesson_of
from protege.spaces import (
    Activation,
    Architecture,
    BadInput,
    Calibration,
    Ends,
    First,
    Infeasible,
    SearchSpace,
    Student,
    Teacher,
    Uniform,
)
from protege.spaces.kept import choose
from tests.tiny import CASES, answer, batch, texts

TEACHERS = {name: case.teacher() for name, case in CASES.items()}
RATIO = st.sampled_from([0.01, 0.1, 0.25, 0.4, 0.5, 0.7, 0.9, 1.0])
RATIOS = st.one_of(
    RATIO, st.lists(RATIO, min_size=1, max_size=3), st.tuples(RATIO, RATIO).map(sorted).map(tuple)
)


@st.composite
def students(draw: st.DrawFn) -> tuple[Teacher, SearchSpace, Architecture]:
    """A teacher, a space over it and one of its members."""
    teacher = TEACHERS[draw(st.sampled_from(sorted(TEACHERS)))]
    knobs = ["layers", "hidden", "intermediate"]
    knobs += [] if teacher.family.heads_follow_hidden else ["heads", "kv_heads"]
    declared: dict[str, Any] = {knob: draw(RATIOS) for knob in knobs}
    declared["layer_policy"] = draw(st.sampled_from([Ends(), Uniform(), (Uniform(), First())]))
    declared["width_policy"] = draw(st.sampled_from([Activation(), (Activation(), First())]))
    space = SearchSpace(**declared, multiple_of=draw(st.sampled_from([1, 2, 4, 8, 16])))
    try:
        bound = space.of(teacher)
    except BadInput:  # nothing but the teacher itself
        bound = SearchSpace(layers=[0.5]).of(teacher)
    return teacher, bound, draw(st.sampled_from(bound.members))


@given(drawn=students())
@settings(max_examples=150)
def test_every_member_has_sizes_that_the_family_takes(
    drawn: tuple[Teacher, SearchSpace, Architecture],
) -> None:
    teacher, space, member = drawn
    own = teacher.architecture
    assert member.head_dim == own.head_dim
    assert member.num_attention_heads % member.num_key_value_heads == 0
    for name, size in member.sizes().items():
        assert 1 <= size <= own.sizes()[name]
    if member != space.anchors[-1]:
        for name in ("hidden_size", "intermediate_size"):
            size = member.sizes()[name]
            assert size == own.sizes()[name] or size % space.multiple_of == 0
    if teacher.family.heads_follow_hidden:
        assert member.hidden_size == member.num_attention_heads * member.head_dim
    assert teacher.blueprint(member).configuration().num_hidden_layers == member.num_hidden_layers


@given(drawn=students())
@settings(max_examples=150)
def test_key_value_groups_are_kept_whole(
    drawn: tuple[Teacher, SearchSpace, Architecture],
) -> None:
    teacher, _, member = drawn
    own = teacher.architecture
    kept = choose(own, member, Calibration.flat(own))
    group = own.num_attention_heads // own.num_key_value_heads
    smaller = member.num_attention_heads // member.num_key_value_heads
    assert len(kept.layers) == len(kept.heads) == len(kept.kv_heads) == len(kept.ffn)
    for heads, groups in zip(kept.heads, kept.kv_heads, strict=True):
        assert [head // group for head in heads] == [g for g in groups for _ in range(smaller)]


@given(drawn=students())
@settings(max_examples=40)
def test_every_member_builds_learns_and_is_saved(
    drawn: tuple[Teacher, SearchSpace, Architecture],
) -> None:
    teacher, _, member = drawn
    student = teacher.student(member, Calibration.of(teacher, [batch()]))
    assert student.model.num_parameters() == teacher.blueprint(member).skeleton().num_parameters()
    before, after = learn(teacher, student)
    assert after < before or (before < 1e-6 and member == teacher.architecture)
    with TemporaryDirectory() as folder:
        auto_class = getattr(transformers, teacher.task.auto_class)
        loaded = auto_class.from_pretrained(student.save(Path(folder))).state_dict()
        mine = student.model.state_dict()
        assert all(torch.equal(mine[name], loaded[name]) for name in mine)


def learn(teacher: Teacher, student: Student) -> tuple[float, float]:
    """The loss on one batch before and after a small step on it."""
    lesson: Lesson = lesson_of(teacher)
    given = texts(8, longest=12)
    sequences = lesson.sequences(teacher, given, [0] * len(given), 16)
    targets = remember(teacher.embedder() or teacher.model, lesson, sequences, 32)
    few = Distillation(steps=4, batch_size=32, learning_rate=1e-3, warmup=0.0)
    losses = few.teach(student.module, lesson, sequences, targets, seed=0)
    return losses[0], losses[-1]


@pytest.mark.parametrize("knob", ["layers", "hidden", "heads", "kv_heads", "intermediate"])
def test_a_knob_that_a_family_lacks_is_infeasible_and_any_other_works(
    teacher: Teacher, knob: str
) -> None:
    ratio: Any = {knob: 0.3}
    if teacher.family.heads_follow_hidden and "heads" in knob:
        with pytest.raises(Infeasible, match=f"{teacher.architecture.model_type} has no head_dim"):
            teacher.architecture.scaled(**ratio)
    else:
        assert answer(teacher.student(teacher.architecture.scaled(**ratio))).isfinite().all()
