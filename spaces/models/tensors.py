"""The axes of a tensor and its place in the model, by the family's table."""

from dataclasses import dataclass, replace

from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from protege.spaces.architecture.sizes import SIZE_OF, Sizes
from protege.spaces.errors import Mismatch
from protege.spaces.families.family import Family, compiled

_ROWS = {"heads": 1, "cross_heads": 1, "kv_heads": 1, "qkv_heads": 3}
"""Rows of a unit as a multiple of `head_dim`, by the axis in the table; 1 row for other axes."""

_UNITS = {"qkv_heads": "heads", "head": "heads"}
"""Axes in the table whose units have another name."""

Rule = tuple[str, tuple[str, ...]]
"""An entry of the table and its axes."""


@dataclass(frozen=True)
class Part:
    """One axis in one dimension of a tensor.

    Attributes:
        unit: The kind of units: one of `SIZE_OF`, or another word for an axis that is never cut.
        stack: The stack that the units belong to; empty if the whole model shares them.
        rows: Rows per unit.
        size: Rows in total.
    """

    unit: str
    stack: str
    rows: int
    size: int


@dataclass(frozen=True)
class TensorSpec:
    """The axes of one tensor and its place in the model.

    Attributes:
        name: Its name in the state dict.
        dimensions: The parts of every dimension, in order.
        stack: The stack of its layer; empty if it belongs to no layer.
        layer: The number of its layer, or None.
        number_at: Start and end of the layer's number in the name.
        tied_to: Name of the tensor whose memory it shares; empty if it has its own.
        factor: Power of the width and offset of its rescaling (see `WidthFactor`), or None.
    """

    name: str
    dimensions: tuple[tuple[Part, ...], ...]
    stack: str = ""
    layer: int | None = None
    number_at: tuple[int, int] = (0, 0)
    tied_to: str = ""
    factor: tuple[float, float] | None = None

    def named(self, layer: int) -> str:
        """Return the tensor's name in another layer of its stack."""
        begin, end = self.number_at
        return f"{self.name[:begin]}{layer}{self.name[end:]}"

    @property
    def axes(self) -> tuple[str, ...]:
        """The units of each dimension, as the table writes them."""
        return tuple("+".join(part.unit for part in parts) for parts in self.dimensions)


def reading_dimension(module: nn.Module) -> int:
    """Return the dimension of a linear layer's weight that indexes its inputs."""
    return 0 if isinstance(module, Conv1D) else 1


def rule_of(family: Family, config: PretrainedConfig, name: str) -> Rule:
    """Return the table's entry for a tensor, with aliases of the hidden axis resolved."""
    entry, axes = family.rule(name)
    width = family.field_of(config, "hidden_size")
    hidden = {f for f in family.as_hidden if getattr(config, f, width) in {width, None}}
    return entry, tuple("hidden" if axis in hidden else axis for axis in axes)


def spec_of(
    family: Family, own: Sizes, rule: Rule, prefix: str, name: str, tensor: Tensor
) -> TensorSpec:
    """Return the axes of a tensor in a model of these sizes, by its rule."""
    entry, axes = rule
    stack, layer, span = _layer(family, entry, prefix, name)
    dimensions = [
        tuple(_part(word, stack, own, size) for word in axis.split("+"))
        for axis, size in zip(axes, tensor.shape, strict=False)
    ]
    sizes = tuple(sum(part.size for part in parts) for parts in dimensions)
    if len(axes) != tensor.ndim or sizes != tensor.shape:
        raise Mismatch(
            f"tensor {name!r} of shape {tuple(tensor.shape)}: the {family.name} table expects "
            f"{' x '.join(axes)}; correct the table of the family"
        )
    return TensorSpec(name, tuple(dimensions), stack, layer, span)


def _layer(
    family: Family, entry: str, prefix: str, name: str
) -> tuple[str, int | None, tuple[int, int]]:
    """Return the stack and number of a tensor's layer, and the number's span in its name."""
    relative = name.removeprefix(prefix)
    before = len(name) - len(relative)
    for stack, place in family.stacks.items():
        found = compiled(f"{place}.").match(relative)
        # an entry that names layer 0 explicitly belongs to the whole stack
        if found is None or ("*" in place and place.replace("*", "0") in entry):
            continue
        if "*" not in place:
            return stack, 0, (0, 0)
        begin, end = found.span(1)
        return stack, int(found[1]), (before + begin, before + end)
    return "", None, (0, 0)


def _part(word: str, stack: str, own: Sizes, size: int) -> Part:
    named, _, bare = word.rpartition(".")
    unit = _UNITS.get(bare, bare)
    if unit not in SIZE_OF:
        return Part(unit, "", 1, size)
    rows = _ROWS.get(bare, 0) * own.head_dim or 1
    place = "" if unit in {"hidden", "vocab"} else named or stack
    return Part(unit, place, rows, rows * own.units(unit))


def with_factor(
    family: Family, config: PretrainedConfig, slot: TensorSpec, prefix: str, *, tied: bool
) -> TensorSpec:
    """Set ``factor`` if the family's forward pass scales this tensor's module by the width."""
    module = slot.name.removeprefix(prefix).rpartition(".")[0]
    for factor in family.factors:
        on = not factor.when or getattr(config, factor.when, False)
        if on and (tied or not factor.tied_only) and compiled(factor.module).fullmatch(module):
            return replace(slot, factor=(factor.power, factor.offset))
    return slot
