"""Cutting: the student's tensors, taken from the teacher's by the family's table."""

from collections.abc import Mapping

import torch
from torch import Tensor

from protege.spaces.families import Family
from protege.spaces.families.family import CUT_AXES
from protege.spaces.kept import Kept


def cut(
    tensors: Mapping[str, Tensor], prefix: str, family: Family, kept: Kept, head_dim: int
) -> dict[str, Tensor]:
    """The student's state dict; every tensor is a copy, so that training it leaves the teacher be.

    Args:
        tensors: The teacher's state dict.
        prefix: What names of the base model's tensors begin with, such as ``"bert."``.
        family: The table that names the axes of every tensor.
        kept: The units to keep.
        head_dim: Rows of one head.

    Raises:
        Mismatch: A tensor that no rule of the table names.
    """
    positions = {layer: position for position, layer in enumerate(kept.layers)}
    student: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        relative = name.removeprefix(prefix)
        axes = family.axes(relative)
        layer = family.layer(relative)
        if layer is not None and layer not in positions:
            continue
        position = None if layer is None else positions[layer]
        new_name = name if position is None else family.in_layer(name, position)
        student[new_name] = _narrow(tensor, axes, kept, position, head_dim)
    return student


def _narrow(
    tensor: Tensor, axes: tuple[str, ...], kept: Kept, position: int | None, head_dim: int
) -> Tensor:
    narrowed = tensor.detach()
    for dimension, axis in enumerate(axes):
        if axis in CUT_AXES:
            rows = kept.rows(axis, position, head_dim)
            if not torch.equal(rows, torch.arange(tensor.shape[dimension])):
                narrowed = narrowed.index_select(dimension, rows)
    return narrowed.clone() if narrowed.data_ptr() == tensor.data_ptr() else narrowed
