"""A model's layers: their order, the depth of each parameter, and their attention projections."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces.errors import Unsupported
from protege.spaces.families.family import Family
from protege.spaces.models.layout import Layout
from protege.spaces.models.tensors import Part, TensorSpec, reading_dimension

KINDS = ("queries", "keys", "values")
"""The parts of self-attention, in the order of fused projections."""


@dataclass(frozen=True)
class Projection:
    """A linear layer that computes queries, keys or values, or all of them.

    Attributes:
        module: The layer.
        widths: Output channels of each kind, in order.
        interleaved: Number of heads if queries, keys and values are interleaved by head; else 0.
    """

    module: nn.Module
    widths: Mapping[str, int]
    interleaved: int = 0

    def split(self, output: Tensor) -> dict[str, Tensor]:
        """Split the layer's output, ``(sequences, tokens, channels)``, by kind."""
        if self.interleaved:
            by_head = output.unflatten(-1, (self.interleaved, len(self.widths), -1))
            parts = [part.flatten(-2) for part in by_head.unbind(-2)]
        else:
            parts = list(output.split(list(self.widths.values()), dim=-1))
        return dict(zip(self.widths, parts, strict=True))


@dataclass(frozen=True)
class Attention:
    """The self-attention of one layer: its module, projections and channels of a head."""

    module: nn.Module
    projections: tuple[Projection, ...]
    head_dim: int

    @property
    def widths(self) -> dict[str, int]:
        """Channels of all heads, by kind."""
        return {kind: size for one in self.projections for kind, size in one.widths.items()}

    @property
    def heads(self) -> dict[str, int]:
        """Number of heads, by kind."""
        return {kind: width // self.head_dim for kind, width in self.widths.items()}


def attention_of(layout: Layout, model: PreTrainedModel, stack: str, layer: int) -> Attention:
    """Find the self-attention of one layer of a teacher or a student by the family's table.

    Raises:
        Unsupported: Queries, keys or values are not computed by exactly one projection.
    """
    modules = dict(model.named_modules())
    found = dict(_projections(layout, model, stack, layer))
    written = sorted(kind for projection in found.values() for kind in projection.widths)
    if written != sorted(KINDS):
        raise Unsupported(
            f"layer {layer} of the {stack or 'model'}: expected one projection each for "
            f"{', '.join(KINDS)} in the {layout.family.name} table, found "
            f"{', '.join(written) or 'none'}; leave out losses on attention"
        )
    parent = next(iter(found)).rpartition(".")[0]
    return Attention(modules[parent], tuple(found.values()), layout.architecture.head_dim)


def _projections(
    layout: Layout, model: PreTrainedModel, stack: str, layer: int
) -> Iterator[tuple[str, Projection]]:
    """Yield the projections from the residual stream to heads, by the module's name."""
    for module, slot in layout.readers(model):
        parts = slot.dimensions[1 - reading_dimension(module)]
        heads = {part.unit for part in parts} <= {"heads", "kv_heads"}
        if (slot.stack, slot.layer) == (stack, layer) and heads:
            name = slot.name.removesuffix(".weight")
            projection = _projection(layout, module, name, parts)
            if projection is not None:
                yield name, projection


def _projection(
    layout: Layout, module: nn.Module, name: str, parts: tuple[Part, ...]
) -> Projection | None:
    """Return the projection of a module by its outputs, or None if it is not part of attention."""
    sizes = [part.size for part in parts]
    if len(parts) == len(KINDS):
        return Projection(module, dict(zip(KINDS, sizes, strict=True)))
    if parts[0].rows == len(KINDS) * layout.architecture.head_dim:
        kinds = dict.fromkeys(KINDS, sizes[0] // len(KINDS))
        return Projection(module, kinds, interleaved=sizes[0] // parts[0].rows)
    kinds_of = dict(zip(layout.family.projections, KINDS, strict=True))
    kind = kinds_of.get(name.rpartition(".")[2])
    return None if kind is None else Projection(module, {kind: sizes[0]})


def layers_above(family: Family, model: PreTrainedModel) -> dict[str, int]:
    """Count the layers between each parameter of a teacher or a student and the output.

    Layer i of a stack of n has ``n - 1 - i`` layers above it. Modules before the first layer have
    n, the depth of the deepest stack; final norms and heads have 0. A tied parameter counts by its
    place closest to the input.

    Returns:
        The number of layers by parameter name, with all names of tied parameters.
    """
    layout = Layout.of(family, model)
    prefix = f"{model.base_model_prefix}."
    above = {slot.name: _above(layout, slot, prefix) for slot in layout.slots}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    most: dict[int, int] = {}
    for name, parameter in parameters.items():
        most[id(parameter)] = max(above[name], most.get(id(parameter), 0))
    return {name: most[id(parameter)] for name, parameter in parameters.items()}


def _above(layout: Layout, slot: TensorSpec, prefix: str) -> int:
    family = layout.family
    depths = {stack: layout.depths.get(stack, 0) for stack in family.depths}
    if slot.layer is not None and slot.stack in depths:
        return depths[slot.stack] - 1 - slot.layer
    return max(depths.values()) if family.is_stem(slot.name.removeprefix(prefix)) else 0
