"""Units chosen by hand: all of them, in another order, or every other one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from protege.spaces import Kept, Teacher
from protege.spaces.students.selection import KeptLayer, everything

AXES = ("hidden", "heads", "cross_heads", "ffn", "experts", "expert_ffn", "vocab")


def has(teacher: Teacher, axis: str) -> bool:
    """Whether the teacher has units of that axis."""
    own = teacher.architecture
    if axis in {"hidden", "vocab"}:
        return own.units(axis) > 0
    return any(axis in units for units in teacher.layout.sites.values())


def shuffled(teacher: Teacher, axis: str) -> Kept:
    """Every unit, those of one axis in another order, which differs from layer to layer."""
    generator = torch.Generator().manual_seed(0)

    def order(units: tuple[int, ...]) -> tuple[int, ...]:
        places = torch.randperm(len(units), generator=generator).tolist()
        return tuple(units[place] for place in places)

    return _changed(teacher, axis, order)


def halved(teacher: Teacher, axis: str) -> Kept:
    """Every other unit of one axis, from the second one on: not what slicing would give."""
    return _changed(teacher, axis, lambda units: units[1::2])


def _changed(
    teacher: Teacher, axis: str, change: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Kept:
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
            KeptLayer(layer.number, changed[0].units if alike else one.units)
            for layer, one in zip(layers, changed, strict=True)
        )
    return replace(whole, stacks=stacks)


def _layer(
    teacher: Teacher,
    layer: KeptLayer,
    axis: str,
    change: Callable[[tuple[int, ...]], tuple[int, ...]],
) -> KeptLayer:
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
    return KeptLayer(layer.number, units)
