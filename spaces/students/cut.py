"""Cut the student's tensors out of the teacher's."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.models.layout import Layout
from protege.spaces.models.tensors import Part, TensorSpec
from protege.spaces.students.selection import Selection


def cut(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    kept: Selection,
    slots: Iterable[TensorSpec] | None = None,
) -> dict[str, Tensor]:
    """Cut the student's state dict, or the tensors of some slots, out of the teacher's.

    Every tensor is a copy, so training the student does not change the teacher. Tied tensors are
    cut once and stay tied.
    """
    rows = Rows(kept)
    width = layout.architecture.hidden_size / len(kept.hidden)
    student: dict[str, Tensor] = {}
    shared: dict[str, Tensor] = {}
    for slot in layout.slots if slots is None else slots:
        same = slot.tied_to or slot.name
        for name, position in kept.names(slot):
            if same not in shared:
                tensor = rows.narrowed(tensors[same], slot, position)
                shared[same] = _rescale(tensor, slot, width)
            student[name] = shared[same]
    return student


def _rescale(tensor: Tensor, slot: TensorSpec, width: float) -> Tensor:
    """Rescale a tensor whose forward pass depends on the width (see `WidthFactor`)."""
    if slot.factor is None or width == 1:
        return tensor
    power, offset = slot.factor
    if not offset:
        return tensor.mul_(width**power)
    return tensor.copy_((tensor.double() + offset) * width**power - offset)


class Rows:
    """Indices to keep along each dimension, cached for all tensors that share them."""

    def __init__(self, kept: Selection) -> None:
        self.kept = kept
        self._cached: dict[tuple[object, ...], Tensor | None] = {}

    def narrowed(self, tensor: Tensor, slot: TensorSpec, position: int | None) -> Tensor:
        """Return a copy of the kept part of a tensor, for the student's layer at a position."""
        indices = [self.index(parts, position) for parts in slot.dimensions]
        narrowed = tensor.detach()
        if len(indices) == 2 and indices[0] is not None and indices[1] is not None:
            return _take_rows_and_columns(narrowed, indices[0], indices[1])
        for dimension, index in enumerate(indices):
            if index is not None:
                narrowed = _take(narrowed, dimension, index)
        shared = narrowed.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        return narrowed.clone(memory_format=torch.contiguous_format) if shared else narrowed

    def index(self, parts: tuple[Part, ...], position: int | None) -> Tensor | None:
        """Return the indices to keep along one dimension; None if all stay."""
        if not any(part.unit in SIZE_OF for part in parts):
            return None
        key = (parts, position)
        if key not in self._cached:
            self._cached[key] = self._compute(parts, position)
        return self._cached[key]

    def _compute(self, parts: tuple[Part, ...], position: int | None) -> Tensor | None:
        units = [self.kept.units(part.unit, part.stack, position) for part in parts]
        if all(_is_whole(one, part) for one, part in zip(units, parts, strict=True)):
            return None
        begin, found = 0, []
        for part, one in zip(parts, units, strict=True):
            rows = torch.arange(part.size) if one is None else _row_indices(one, part.rows)
            found.append(rows + begin)
            begin += part.size
        return torch.cat(found, dim=-1)


def _is_whole(units: tuple[Any, ...] | None, part: Part) -> bool:
    """Return whether these are all units, in order."""
    count = part.size // part.rows
    if units is None or isinstance(units[0], int):
        return units is None or units == tuple(range(count))
    return all(one == tuple(range(count)) for one in units)


def _row_indices(units: object, rows: int) -> Tensor:
    """Return the row indices of units that have ``rows`` rows each."""
    chosen = torch.tensor(units, dtype=torch.long)
    return (chosen.unsqueeze(-1) * rows + torch.arange(rows)).flatten(-2)


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer types by element size: torch gathers integers many times faster than bf16."""


def _take_rows_and_columns(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Select rows and columns of a matrix, one block of rows at a time.

    The intermediate block stays in the processor's cache, and no matrix-sized intermediates
    fragment the memory of a large model.
    """
    bits = tensor.view(_BITS[tensor.element_size()])
    made = bits.new_empty(len(rows), len(columns))
    step = max(1, 2**20 // (bits.shape[1] * bits.element_size()))
    for begin in range(0, len(rows), step):
        block = bits.index_select(0, rows[begin : begin + step])
        index = columns.expand(len(block), -1)
        torch.gather(block, 1, index, out=made[begin : begin + step])
    return made.view(tensor.dtype)


def _take(tensor: Tensor, dimension: int, index: Tensor) -> Tensor:
    """Select indices of one dimension by the fastest method."""
    if index.ndim == 2:  # separate neurons for each expert
        shape = [len(index), *(1 for _ in tensor.shape[1:])]
        shape[dimension] = index.shape[1]
        return _gather(tensor, dimension, index.reshape(shape))
    first, count = int(index[0]), len(index)
    if torch.equal(index, torch.arange(first, first + count)):
        return tensor.narrow(dimension, first, count)
    if dimension == 0 or tensor.ndim > 2:  # copies whole rows
        return tensor.index_select(dimension, index)
    return _gather(tensor, dimension, index.unsqueeze(0))


def _gather(tensor: Tensor, dimension: int, index: Tensor) -> Tensor:
    """Gather along a dimension; the index is broadcast over all others."""
    shape = list(tensor.shape)
    shape[dimension] = index.shape[dimension]
    bits = tensor.view(_BITS[tensor.element_size()])
    return bits.gather(dimension, index.expand(shape)).view(tensor.dtype)
