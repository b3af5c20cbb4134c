"""Units chosen by hand: all of them, in another order, or every other one."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import Architecture, Family, Selection, Teacher
from protege.spaces.students.selection import LayerSelection, everything

AXES = ("hidden", "heads", "cross_heads", "ffn", "experts", "expert_ffn", "vocab")


def axes_of(family: Family) -> list[str]:
    """Return the axes that models of a family have units of, as its table names them."""
    words = {word for axes in family.tensors.values() for word in re.findall(r"\w+", axes)}
    heads = {"heads"} if "qkv_heads" in words else set()
    return [axis for axis in AXES if axis in words | heads]


def axes_to_cut(family: Family) -> list[str]:
    """Return the axes in layers that a student may have fewer units of at its teacher's width."""
    whole: set[str] = set()
    if family.heads_follow_hidden or family.whole:
        whole |= {"heads", "cross_heads"}
    if family.ffn_multiple:
        whole.add("ffn")
    return [axis for axis in axes_of(family) if axis not in {"hidden", "vocab", *whole}]


def shuffled(teacher: Teacher, axis: str) -> Selection:
    """Every unit, those of one axis in another order, which differs from layer to layer."""
    generator = torch.Generator().manual_seed(0)

    def order(units: tuple[int, ...]) -> tuple[int, ...]:
        places = torch.randperm(len(units), generator=generator).tolist()
        return tuple(units[place] for place in places)

    return _changed(teacher, axis, order)


def halved(teacher: Teacher, axis: str) -> Selection:
    """Every other unit of one axis, from the second one on: not what slicing would give."""
    return _changed(teacher, axis, lambda units: units[1::2])


def _changed(
    teacher: Teacher, axis: str, change: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Selection:
    whole = everything(teacher.layout)
    if axis == "hidden":
        return replace(whole, hidden=change(whole.hidden))
    if axis == "vocab":
        # special tokens stay: positions of RoBERTa are counted from the padding id
        special, rest = tuple(range(5)), tuple(range(5, teacher.architecture.vocab_size))
        return replace(whole, vocab=(*special, *change(rest)))
    stacks = {}
    for stack, layers in whole.stacks.items():
        alike = axis in teacher.family.shared
        changed = [_layer(teacher, layer, axis, change) for layer in layers]
        stacks[stack] = tuple(
            LayerSelection(layer.number, changed[0].units if alike else one.units)
            for layer, one in zip(layers, changed, strict=True)
        )
    return replace(whole, stacks=stacks)


def _layer(
    teacher: Teacher,
    layer: LayerSelection,
    axis: str,
    change: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> LayerSelection:
    units: dict[str, Any] = dict(layer.units)
    if axis not in units:
        return layer
    if axis == "expert_ffn":
        units[axis] = tuple(change(neurons) for neurons in units[axis])
    elif axis == "experts":
        units[axis] = change(units[axis])
        if "expert_ffn" in units:
            units["expert_ffn"] = units["expert_ffn"][: len(units[axis])]
    elif axis == "heads" and "kv_heads" in units:
        own = teacher.architecture
        size = own.num_attention_heads // own.num_key_value_heads
        in_group = change(tuple(range(size))) if size > 1 else (0,)
        groups = units["kv_heads"] if size > 1 else change(units["kv_heads"])
        if len(in_group) == size:  # an order: the groups get another one too
            groups = change(groups)
        units["kv_heads"] = groups
        units[axis] = tuple(group * size + head for group in groups for head in in_group)
    else:
        units[axis] = change(units[axis])
    return LayerSelection(layer.number, units)


def sized(own: Architecture, kept: Selection) -> Architecture:
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
