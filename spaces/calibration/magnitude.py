"""Importance of a teacher's units by the magnitude of their weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.linalg import vector_norm

from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.models.layout import Layout
from protege.spaces.models.tensors import Part, TensorSpec


def magnitudes(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute each unit's root of the sum of squares of its weights.

    A weight belongs to one unit in each of its tensor's dimensions. The squares of a group's key
    and value heads are divided evenly among its query heads. Tied tensors count once; a tensor
    shared by a stack counts in each of its layers.

    Returns:
        ``hidden``, ``(hidden_size,)``; for every stack ``decoder.heads``, ``decoder.cross_heads``,
        ``decoder.ffn`` and ``decoder.experts``, ``(layers, units)``, and ``decoder.expert_ffn``,
        ``(layers, experts, ffn)``.
    """
    totals = _Totals(layout)
    for slot in layout.slots:
        if not slot.tied_to:
            totals.add(slot, tensors[slot.name].detach())
    return {name: total.sqrt().float() for name, total in totals.squares.items()}


@dataclass(frozen=True)
class _Totals:
    """Sums of squares by name."""

    layout: Layout
    squares: dict[str, Tensor] = field(default_factory=dict)

    def add(self, slot: TensorSpec, tensor: Tensor) -> None:
        """Add the squares of a tensor to its units."""
        for dimension, begin, part in _places(slot):
            over = (slot.axes.index("experts"),) if part.unit == "expert_ffn" else ()
            squares = _squares(tensor, (*over, dimension)).narrow(-1, begin, part.size)
            by_unit = squares.unflatten(-1, (-1, part.rows)).sum(-1)
            if part.unit == "hidden":
                self._total("hidden", by_unit.shape).add_(by_unit)
            else:
                self._add_to_stack(part, slot.layer, by_unit)

    def _add_to_stack(self, part: Part, layer: int | None, by_unit: Tensor) -> None:
        """Add to one layer, or to all layers if the tensor belongs to none."""
        unit = part.unit
        if unit == "kv_heads":
            size = self.layout.architecture.num_attention_heads // len(by_unit)
            unit, by_unit = "heads", by_unit.repeat_interleave(size) / size
        depth = self.layout.depths[part.stack]
        total = self._total(f"{part.stack}.{unit}", (depth, *by_unit.shape))
        total[slice(None) if layer is None else layer] += by_unit

    def _total(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.squares.setdefault(name, torch.zeros(shape, dtype=torch.float64))


def _places(slot: TensorSpec) -> Iterator[tuple[int, int, Part]]:
    """Yield the ranked parts of a tensor with their dimension and start index."""
    for dimension, parts in enumerate(slot.dimensions):
        begin = 0
        for part in parts:
            if part.unit in SIZE_OF and part.unit != "vocab":
                yield dimension, begin, part
            begin += part.size


def _squares(tensor: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Sum squares over all dimensions but the kept ones, ``(experts, rows)`` or ``(rows,)``."""
    others = tuple(d for d in range(tensor.ndim) if d not in kept)
    norms = vector_norm(tensor, dim=others, dtype=torch.float64) if others else tensor.double()
    return norms.square()
