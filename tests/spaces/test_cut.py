"""Whatever the family and the head, a student computes what its teacher would with less."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import FAMILIES, Kept, Mismatch, Teacher
from protege.spaces.architecture import Architecture
from protege.spaces.families.family import CUT_AXES
from protege.spaces.kept import choose
from tests.tiny import CASES, Case, answer


def everything(own: Architecture) -> Kept:
    return choose(own, own, None)


def modules(teacher: Teacher, axes: str) -> list[nn.Module]:
    """The base model's modules of these axes, first layer first."""
    patterns = teacher.family.modules(axes)
    named = teacher.model.base_model.named_modules()
    return [module for name, module in named if any(p.fullmatch(name) for p in patterns)]


@contextmanager
def zeroed(layers: list[nn.Module], kept: list[Tensor]) -> Iterator[None]:
    """Projections that read nothing but the kept channels of their input."""
    weights = [
        (layer.get_parameter("weight"), rows) for layer, rows in zip(layers, kept, strict=True)
    ]
    before = [weight.detach().clone() for weight, _ in weights]
    with torch.no_grad():
        for weight, rows in weights:
            mask = torch.zeros(weight.shape[1]).index_fill(0, rows, 1.0)
            weight.mul_(mask)
        yield
        for (weight, _), old in zip(weights, before, strict=True):
            weight.copy_(old)


def test_every_supported_model_type_has_tiny_teachers() -> None:
    covered = {case.model_type for case in CASES.values()}
    assert covered == {name for family in FAMILIES for name in family.model_types}


def test_at_ratio_one_the_student_is_the_teacher_bit_for_bit(teacher: Teacher) -> None:
    student = teacher.student(teacher.architecture.scaled())
    mine, theirs = student.model.state_dict(), teacher.model.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert torch.equal(answer(student), answer(teacher))
    assert student.model.config.to_dict().items() >= architecture_fields(teacher).items()


def architecture_fields(teacher: Teacher) -> dict[str, Any]:
    config = teacher.config.to_dict()
    return {name: config[name] for name in teacher.family.knobs}


def shuffled(own: Architecture, axis: str) -> Kept:
    """Every unit kept, those of one axis in another order, which differs from layer to layer."""
    generator = torch.Generator().manual_seed(0)

    def order(count: int) -> list[int]:
        found: list[int] = torch.randperm(count, generator=generator).tolist()
        return found

    kept = everything(own)
    depth, group = own.num_hidden_layers, own.num_attention_heads // own.num_key_value_heads
    if axis == "hidden":
        return replace(kept, hidden=tuple(order(own.hidden_size)))
    if axis == "ffn":
        return replace(kept, ffn=tuple(tuple(order(own.intermediate_size)) for _ in range(depth)))
    groups = [order(own.num_key_value_heads) for _ in range(depth)]
    heads = [[g * group + head for g in layer for head in order(group)] for layer in groups]
    return replace(kept, heads=tuple(map(tuple, heads)), kv_heads=tuple(map(tuple, groups)))


@pytest.mark.parametrize("axis", ["hidden", "heads", "ffn"])
def test_the_order_of_units_does_not_matter(teacher: Teacher, axis: str) -> None:
    kept = shuffled(teacher.architecture, axis)
    assert kept != everything(teacher.architecture)
    given, expected = answer(teacher.student_of(teacher.architecture, kept)), answer(teacher)
    if axis == "hidden" and expected.shape[1] == teacher.architecture.hidden_size:
        expected = expected[:, list(kept.hidden)]
    assert_close(given, expected, rtol=1e-5, atol=1e-5)


def test_a_student_without_neurons_is_the_teacher_with_them_silenced(teacher: Teacher) -> None:
    own = teacher.architecture
    kept = everything(own)
    picked = [units[layer % 2 :: 2] for layer, units in enumerate(kept.ffn)]
    smaller = replace(own, intermediate_size=len(picked[0]))
    rows = [torch.tensor(units) for units in picked]
    with zeroed(modules(teacher, "hidden ffn"), rows):
        expected = answer(teacher)
    assert not torch.equal(expected, answer(teacher))
    given = answer(teacher.student_of(smaller, replace(kept, ffn=tuple(picked))))
    assert_close(given, expected, rtol=1e-5, atol=1e-5)


def with_head_sizes() -> dict[str, Case]:
    return {
        name: case for name, case in CASES.items() if not case.teacher().family.heads_follow_hidden
    }


@pytest.mark.parametrize("case", with_head_sizes().values(), ids=with_head_sizes())
@pytest.mark.parametrize("knob", ["heads", "kv_heads"])
def test_a_student_without_heads_is_the_teacher_with_them_silenced(case: Case, knob: str) -> None:
    teacher = case.teacher()
    own = teacher.architecture
    # the second half of each group, or of the groups: not what slicing would give
    group = own.num_attention_heads // own.num_key_value_heads
    groups = range(own.num_key_value_heads)
    queries: range = range(group)
    if knob == "kv_heads" or group == 1:
        groups = groups[len(groups) // 2 :]
    else:
        queries = queries[1:]
    heads = tuple(g * group + q for g in groups for q in queries)
    sizes = replace(own, num_attention_heads=len(heads), num_key_value_heads=len(groups))
    depth = own.num_hidden_layers
    kept = replace(everything(own), heads=(heads,) * depth, kv_heads=(tuple(groups),) * depth)
    rows = (torch.tensor(heads)[:, None] * own.head_dim + torch.arange(own.head_dim)).reshape(-1)
    with zeroed(modules(teacher, "hidden heads"), [rows] * depth):
        expected = answer(teacher)
    assert not torch.equal(expected, answer(teacher))
    assert_close(answer(teacher.student_of(sizes, kept)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [(0, 3), (1, 2, 3), (2,)])
def test_a_shallower_student_is_the_teacher_with_layers_bypassed(
    teacher: Teacher, layers: tuple[int, ...]
) -> None:
    own = teacher.architecture
    whole = everything(own)
    kept = Kept(
        layers, whole.hidden, *(tuple(units[i] for i in layers) for units in per_layer(whole))
    )
    student = teacher.student_of(replace(own, num_hidden_layers=len(layers)), kept)
    with bypassed(teacher, set(range(own.num_hidden_layers)) - set(layers)):
        expected = answer(teacher)
    assert torch.equal(answer(student), expected)
    assert not torch.equal(answer(teacher), expected)


def per_layer(kept: Kept) -> tuple[tuple[tuple[int, ...], ...], ...]:
    return kept.heads, kept.kv_heads, kept.ffn


@contextmanager
def bypassed(teacher: Teacher, layers: set[int]) -> Iterator[None]:
    """Layers that pass on what they are given."""
    stacks = [
        module
        for module in teacher.model.base_model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == teacher.architecture.num_hidden_layers
    ]
    assert len(stacks) == 1
    handles = [
        stacks[0][number].register_forward_hook(lambda _layer, inputs, _output: inputs[0])
        for number in layers
    ]
    yield
    for handle in handles:
        handle.remove()


def test_every_tensor_is_named_by_one_rule_that_fits_its_shape(teacher: Teacher) -> None:
    own, prefix = teacher.architecture, f"{teacher.model.base_model_prefix}."
    sizes = {
        "hidden": own.hidden_size,
        "heads": own.num_attention_heads * own.head_dim,
        "kv_heads": own.num_key_value_heads * own.head_dim,
        "ffn": own.intermediate_size,
        "vocab": own.vocab_size,
        "label": 3,
    }
    for name, tensor in teacher.model.state_dict().items():
        axes = teacher.family.axes(name.removeprefix(prefix))
        assert len(axes) == tensor.ndim, name
        named = zip(axes, tensor.shape, strict=True)
        assert all(sizes.get(axis, size) == size for axis, size in named), name
        assert set(axes) - set(CUT_AXES) <= {"vocab", "label", "position", "type"}, name


@pytest.mark.parametrize("kind", ["weight", "bias", "gate"])
def test_a_tensor_that_no_rule_names_is_an_error_that_names_it(case: Case, kind: str) -> None:
    teacher = case.teacher()
    planted = nn.Module()
    planted.register_parameter(kind, nn.Parameter(torch.zeros(teacher.architecture.hidden_size)))
    teacher.model.base_model.add_module("planted", planted)
    with pytest.raises(Mismatch, match=rf"'planted\.{kind}': expected one rule .* found 0"):
        teacher.student(teacher.architecture.scaled(layers=0.5))


def test_units_that_do_not_fit_the_architecture_are_refused(teacher: Teacher) -> None:
    own = teacher.architecture
    smaller = replace(own, intermediate_size=own.intermediate_size - 2)
    with pytest.raises(Mismatch, match=r"do not fit the student's sizes: see \S+"):
        teacher.student_of(smaller, everything(own))


def test_training_a_student_leaves_the_teacher_as_it_was(teacher: Teacher) -> None:
    before = deepcopy(teacher.model.state_dict())
    for architecture in (teacher.architecture, teacher.architecture.scaled(layers=0.5)):
        student = teacher.student(architecture)
        with torch.no_grad():
            for parameter in student.module.parameters():
                parameter.add_(1.0)
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
