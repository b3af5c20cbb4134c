"""A student without units or layers is its teacher with them silenced or bypassed."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import Infeasible, Selection, Teacher, family_of
from protege.spaces.architecture.policies import Findings, LayerPolicy
from protege.spaces.students.selection import LayerSelection, everything
from tests.spaces.choices import assert_near, axes_of, axes_to_cut, halved, sized
from tests.tiny import ZOO, answer
from tests.zoo import FLOWS, marked, teacher_of


@contextmanager
def silenced(teacher: Teacher, axis: str, kept: Selection) -> Iterator[None]:
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


@pytest.mark.parametrize(
    ("name", "axis"),
    marked((name, axis) for name in FLOWS for axis in axes_to_cut(family_of(ZOO[name].model_type))),
)
def test_a_student_without_units_is_the_teacher_with_them_silenced(name: str, axis: str) -> None:
    teacher = teacher_of(name)
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


def _paired(teacher: Teacher, axis: str) -> set[str]:
    pair = {"heads", "cross_heads"}
    return pair if axis in pair and "cross_heads" in axes_of(teacher.family) else set()


def _with_other_heads(teacher: Teacher, kept: Selection) -> Selection:
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
            changed.append(LayerSelection(layer.number, units))
        stacks[stack] = tuple(changed)
    return replace(kept, stacks=stacks)


def without_layers(teacher: Teacher, layers: dict[str, tuple[int, ...]]) -> Selection:
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

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            if number not in kept:
                hooks.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
        yield
