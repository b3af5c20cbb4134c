"""Cutting: the student's tensors, taken from the teacher's by the family's table."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from protege.spaces.families.family import CUT_AXES
from protege.spaces.models.layout import Layout, Part, Slot
from protege.spaces.students.selection import Kept


def cut(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    kept: Kept,
    slots: Iterable[Slot] | None = None,
) -> dict[str, Tensor]:
    """The student's state dict; every tensor is a copy, so that training it leaves the teacher be.

    Tensors that share their memory are cut once and share it again.

    Args:
        tensors: The teacher's state dict.
        layout: What each of them is made of.
        kept: The units to keep.
        slots: Of what to cut; of everything if not given.
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
                shared[same] = _scaled(tensor, slot, width)
            student[name] = shared[same]
    return student


def _scaled(tensor: Tensor, slot: Slot, width: float) -> Tensor:
    """The tensor with what the forward pass will lack, or have too much of, made up for."""
    if slot.factor is None or width == 1:
        return tensor
    power, offset = slot.factor
    if not offset:
        return tensor.mul_(width**power)
    return tensor.copy_((tensor.double() + offset) * width**power - offset)


class Rows:
    """The rows to take along each dimension, worked out once for all tensors that share them."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self._known: dict[tuple[object, ...], Tensor | None] = {}

    def narrowed(self, tensor: Tensor, slot: Slot, position: int | None) -> Tensor:
        """A copy of what is kept of the tensor, for the student's layer at that position."""
        indices = [self.index(parts, position) for parts in slot.dimensions]
        narrowed = tensor.detach()
        if len(indices) == 2 and indices[0] is not None and indices[1] is not None:
            return _crossed(narrowed, indices[0], indices[1])
        for dimension, index in enumerate(indices):
            if index is not None:
                narrowed = _taken(narrowed, dimension, index)
        shared = narrowed.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        return narrowed.clone(memory_format=torch.contiguous_format) if shared else narrowed

    def index(self, parts: tuple[Part, ...], position: int | None) -> Tensor | None:
        """Rows along one dimension; none where all of them stay."""
        if not any(part.unit in CUT_AXES for part in parts):
            return None
        key = (parts, position)
        if key not in self._known:
            self._known[key] = self._worked_out(parts, position)
        return self._known[key]

    def _worked_out(self, parts: tuple[Part, ...], position: int | None) -> Tensor | None:
        units = [self.kept.units(part.unit, part.stack, position) for part in parts]
        if all(_is_whole(one, part) for one, part in zip(units, parts, strict=True)):
            return None
        begin, found = 0, []
        for part, one in zip(parts, units, strict=True):
            rows = torch.arange(part.size) if one is None else _spread(one, part.rows)
            found.append(rows + begin)
            begin += part.size
        return torch.cat(found, dim=-1)


def _is_whole(units: tuple[Any, ...] | None, part: Part) -> bool:
    """Whether these are all units, in their own order."""
    count = part.size // part.rows
    if units is None or isinstance(units[0], int):
        return units is None or units == tuple(range(count))
    return all(one == tuple(range(count)) for one in units)


def _spread(units: object, rows: int) -> Tensor:
    """The rows of these units, each of so many."""
    chosen = torch.tensor(units, dtype=torch.long)
    return (chosen.unsqueeze(-1) * rows + torch.arange(rows)).flatten(-2)


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as a tensor's elements: torch gathers them many times faster than bf16."""


def _crossed(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows and columns of a matrix, a block of rows at a time.

    What lies between the two steps so never leaves the processor's cache, nor does the memory of a
    large model fill with the gaps that whole matrices in between would leave.
    """
    bits = tensor.view(_BITS[tensor.element_size()])
    made = bits.new_empty(len(rows), len(columns))
    step = max(1, 2**20 // (bits.shape[1] * bits.element_size()))
    for begin in range(0, len(rows), step):
        block = bits.index_select(0, rows[begin : begin + step])
        index = columns.expand(len(block), -1)
        torch.gather(block, 1, index, out=made[begin : begin + step])
    return made.view(tensor.dtype)


def _taken(tensor: Tensor, dimension: int, index: Tensor) -> Tensor:
    """The rows of one dimension, by whatever is quickest for them."""
    if index.ndim == 2:  # of each expert its own neurons
        shape = [len(index), *(1 for _ in tensor.shape[1:])]
        shape[dimension] = index.shape[1]
        return _gathered(tensor, dimension, index.reshape(shape))
    first, count = int(index[0]), len(index)
    if torch.equal(index, torch.arange(first, first + count)):
        return tensor.narrow(dimension, first, count)
    if dimension == 0 or tensor.ndim > 2:  # whole rows, copied one after the other
        return tensor.index_select(dimension, index)
    return _gathered(tensor, dimension, index.unsqueeze(0))


def _gathered(tensor: Tensor, dimension: int, index: Tensor) -> Tensor:
    """Single elements along a dimension; the index is spread over all others."""
    shape = list(tensor.shape)
    shape[dimension] = index.shape[dimension]
    bits = tensor.view(_BITS[tensor.element_size()])
    return bits.gather(dimension, index.expand(shape)).view(tensor.dtype)
