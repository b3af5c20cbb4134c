"""Whatever the family and the head, a student computes what its teacher would with less."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import (
    FAMILIES,
    Architecture,
    Infeasible,
    Kept,
    Mismatch,
    Student,
    Teacher,
)
from protege.spaces.architecture.policies import Findings, LayerPolicy
from protege.spaces.families.family import CUT_AXES
from protege.spaces.students.cut import cut
from protege.spaces.students.filling import filled
from protege.spaces.students.selection import KeptLayer, everything
from protege.spaces.vocabulary.tokenizer import renumbered
from tests.spaces.choices import AXES, halved, has, shuffled
from tests.tiny import CASES, ZOO, Case, answer, inputs_of


def sized(own: Architecture, kept: Kept) -> Architecture:
    """The architecture of a student that keeps these units."""
    sizes: dict[str, Any] = {"hidden_size": len(kept.hidden)}
    if kept.vocab is not None:
        sizes["vocab_size"] = len(kept.vocab)
    names = {
        "heads": "num_attention_heads",
        "cross_heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "ffn": "intermediate_size",
        "experts": "num_experts",
    }
    for layers in kept.stacks.values():
        for layer in layers:
            sizes |= {names[unit]: len(layer.units[unit]) for unit in names if unit in layer.units}
            for neurons in layer.units.get("expert_ffn", ()):
                assert isinstance(neurons, tuple)
                sizes["moe_intermediate_size"] = len(neurons)
    if not any("kv_heads" in layer.units for layers in kept.stacks.values() for layer in layers):
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    depths = {"num_hidden_layers": len(next(iter(kept.stacks.values())))}
    if own.num_decoder_layers:
        depths["num_decoder_layers"] = len(kept.stacks["decoder"])
    sizes |= depths
    return replace(own, **sizes)


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest figure, or of one: sums were only taken in another order."""
    assert_close(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_every_supported_model_type_has_tiny_teachers() -> None:
    covered = {case.model_type for case in ZOO.values()}
    assert covered == {name for family in FAMILIES for name in family.model_types}


def test_at_ratio_one_the_student_is_the_teacher_bit_for_bit(teacher: Teacher) -> None:
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


@pytest.mark.parametrize("axis", AXES)
def test_the_order_of_units_does_not_matter(teacher: Teacher, axis: str) -> None:
    if not has(teacher, axis) or axis == "vocab":
        return
    kept = shuffled(teacher, axis)
    assert kept != everything(teacher.layout)
    student = teacher.student_of(teacher.architecture, kept)
    asked, embedder = inputs_of(teacher), teacher.embedder()
    if axis == "hidden" and embedder is not None:
        # vectors of texts are read off in the teacher's own order
        assert student.embedder is not None
        with torch.inference_mode():
            assert_near(student.embedder(**asked), embedder(**asked))
        return
    expected = answer(teacher)
    if axis == "hidden" and expected.shape[-1] == teacher.architecture.hidden_size:
        expected = expected[..., list(kept.hidden)]
    assert_near(answer(student), expected)


def test_the_order_of_tokens_does_not_matter(teacher: Teacher) -> None:
    if not has(teacher, "vocab"):
        return
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


def test_a_student_of_fewer_tokens_answers_as_its_teacher_where_none_is_missing(
    teacher: Teacher,
) -> None:
    if not has(teacher, "vocab"):
        return
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


@contextmanager
def silenced(teacher: Teacher, axis: str, kept: Kept) -> Iterator[None]:
    """The teacher with nothing of the units that are not kept reaching what reads them."""
    model = teacher.model
    with ExitStack() as stack:
        for slot in teacher.layout.slots:
            if axis not in "+".join(slot.axes).split("+") or slot.layer is None:
                continue
            layers = {layer.number: layer for layer in kept.stacks[slot.stack]}
            units: Any = layers[slot.layer].units[axis]
            tensor = model.state_dict()[slot.name]
            before = tensor.clone()
            stack.callback(tensor.copy_, before)
            if axis == "experts":
                _silence_router(stack, model, slot.name, units)
            elif axis == "expert_ffn":
                if slot.axes[-1] == axis:
                    mask = torch.zeros(tensor.shape[0], tensor.shape[2])
                    mask[torch.arange(len(units))[:, None], torch.tensor(units)] = 1
                    tensor.mul_(mask[:, None])
            elif "hidden" in slot.axes and len(slot.axes) == 2:
                _silence_readers(teacher, slot.name, slot.axes, axis, units)
        yield


def _silence_readers(
    teacher: Teacher, name: str, axes: tuple[str, ...], axis: str, units: Any
) -> None:
    """Zero what a projection into the residual stream would read of the units left out."""
    module = teacher.model.get_submodule(name.rpartition(".")[0]) if "." in name else None
    conv = type(module).__name__ == "Conv1D"
    dimension = 0 if conv else 1
    if axes[dimension] != axis:
        return
    tensor = teacher.model.state_dict()[name]
    rows = teacher.architecture.head_dim if axis.endswith("heads") else 1
    kept = (torch.tensor(units)[:, None] * rows + torch.arange(rows)).reshape(-1)
    mask = torch.zeros(tensor.shape[dimension]).index_fill(0, kept, 1.0)
    tensor.mul_(mask[:, None] if conv else mask)


def _silence_router(stack: ExitStack, model: nn.Module, name: str, units: Any) -> None:
    """A router that never chooses an expert left out: its logit is as low as can be."""
    if not name.endswith("mlp.gate.weight"):
        return
    router: Any = model.get_submodule(name.removesuffix(".weight"))

    def hook(module: Any, given: tuple[Tensor, ...], _output: object) -> tuple[Tensor, ...]:
        logits = nn.functional.linear(given[0].reshape(-1, given[0].shape[-1]), module.weight)
        out = torch.full_like(logits, -torch.inf).index_fill(1, torch.tensor(units), 0.0)
        probabilities = (logits + out).float().softmax(-1)
        top, chosen = probabilities.topk(module.top_k, dim=-1)
        if getattr(module, "norm_topk_prob", True):
            top = top / top.sum(-1, keepdim=True)
        return logits, top, chosen

    stack.callback(router.register_forward_hook(hook).remove)


@pytest.mark.parametrize("axis", ["heads", "cross_heads", "ffn", "experts", "expert_ffn"])
def test_a_student_without_units_is_the_teacher_with_them_silenced(case: Case, axis: str) -> None:
    teacher = case.teacher()
    if not has(teacher, axis) or not _is_cut(teacher, axis):
        return
    kept = halved(teacher, axis)
    if axis in {"heads", "cross_heads"}:  # one size counts both
        kept = _with_other_heads(teacher, kept)
    with ExitStack() as stack:
        for silent in {axis, *_paired(teacher, axis)}:
            stack.enter_context(silenced(teacher, silent, kept))
        expected = answer(teacher)
    assert not torch.equal(expected, answer(teacher))
    found = answer(teacher.student_of(sized(teacher.architecture, kept), kept))
    assert_near(found, expected)


def _is_cut(teacher: Teacher, axis: str) -> bool:
    """Whether a student of the family can have fewer of these units without a narrower stream."""
    heads = axis.endswith("heads")
    if heads and (teacher.family.heads_follow_hidden or teacher.family.whole):
        return False
    return not (axis == "ffn" and teacher.family.ffn_multiple)


def _paired(teacher: Teacher, axis: str) -> set[str]:
    return (
        {"heads", "cross_heads"}
        if axis.endswith("heads") and has(teacher, "cross_heads")
        else set()
    )


def _with_other_heads(teacher: Teacher, kept: Kept) -> Kept:
    """The same with as many heads of the other kind, where a layer has two attentions."""
    own = teacher.architecture.num_attention_heads
    stacks = {}
    for stack, layers in kept.stacks.items():
        changed = []
        for layer in layers:
            units = dict(layer.units)
            for axis in ("heads", "cross_heads"):
                if axis in units and len(units[axis]) == own and "kv_heads" not in units:
                    units[axis] = tuple(range(own // 2))
            changed.append(KeptLayer(layer.number, units))
        stacks[stack] = tuple(changed)
    return replace(kept, stacks=stacks)


def without_layers(teacher: Teacher, layers: dict[str, tuple[int, ...]]) -> Kept:
    """All units of these layers, and all layers of the stacks not named."""
    whole = everything(teacher.layout)
    stacks = {
        stack: tuple(one for one in found if one.number in layers.get(stack, (one.number,)))
        for stack, found in whole.stacks.items()
    }
    return replace(whole, stacks=stacks)


@pytest.mark.parametrize("layers", [(0, 2), (1, 2), (2,)], ids=str)
def test_a_shallower_student_is_the_teacher_with_layers_bypassed(
    teacher: Teacher, layers: tuple[int, ...]
) -> None:
    for stack in teacher.family.depths:
        if stack not in teacher.layout.depths:
            continue
        kept = without_layers(teacher, {stack: layers})
        student = sized(teacher.architecture, kept)
        student = replace(student, layer_policy=_Layers(layers))
        if teacher.family.first_layer_stays and 0 not in layers and _stays(teacher):
            with pytest.raises(
                Infeasible, match="layer 0 is built unlike the others and must stay"
            ):
                teacher.student_of(student, kept)
            continue
        with bypassed(teacher, stack, layers):
            expected = answer(teacher)
        assert_close(answer(teacher.student_of(student, kept)), expected, rtol=0, atol=1e-6)
        assert not torch.equal(answer(teacher), expected)


def _stays(teacher: Teacher) -> bool:
    return any(getattr(teacher.config, name, None) for name in teacher.family.first_layer_stays)


class _Layers:
    """These layers of any stack that has fewer than all of them to keep."""

    name = "these"
    needs_calibration = False
    is_resolved = True

    def __init__(self, layers: tuple[int, ...]) -> None:
        self._layers = layers

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        assert count == len(self._layers) < total
        return self._layers


@contextmanager
def bypassed(teacher: Teacher, stack: str, kept: tuple[int, ...]) -> Iterator[None]:
    """Layers that pass on what they are given; T5's first one still tells distances."""
    place = teacher.family.stacks[stack].removesuffix(".*")
    layers: Any = teacher.model.base_model.get_submodule(place)

    def hook(_layer: nn.Module, given: Any, named: Any, output: Any) -> Any:
        states = given[0] if given else named["hidden_states"]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handles = [
        layer.register_forward_hook(hook, with_kwargs=True)
        for number, layer in enumerate(layers)
        if number not in kept
    ]
    yield
    for handle in handles:
        handle.remove()


def test_every_tensor_is_named_by_one_rule_that_fits_its_shape(teacher: Teacher) -> None:
    whole = {"place", "label", "bucket", "channel", "one", "kernel", "mel", "colour", "height"}
    whole |= {"width", *teacher.family.as_hidden}
    assert [slot.name for slot in teacher.layout.slots] == list(teacher.model.state_dict())
    for slot in teacher.layout.slots:
        shape = teacher.model.state_dict()[slot.name].shape
        assert [sum(part.size for part in parts) for parts in slot.dimensions] == list(shape)
        units = {part.unit for parts in slot.dimensions for part in parts}
        assert units - set(CUT_AXES) <= whole, slot.name


@pytest.mark.parametrize("kind", ["weight", "bias", "gate"])
def test_a_tensor_that_no_rule_names_is_an_error_that_names_it(case: Case, kind: str) -> None:
    teacher = case.teacher()
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
