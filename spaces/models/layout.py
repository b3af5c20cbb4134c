"""The layout of a model: the axes of each of its tensors, by its family's table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.errors import Mismatch, Unsupported
from protege.spaces.families import Family
from protege.spaces.families.family import ALIASES, CUT_AXES, ROWS, compiled
from protege.spaces.models.sharing import first_names, is_tied

_READ = ("hidden", "vocab", "ffn", "experts", "expert_ffn")
"""Axes whose size is read from the tensors; only the configuration has the number of heads."""


@dataclass(frozen=True)
class Part:
    """One axis in one dimension of a tensor.

    Attributes:
        unit: The kind of units: one of `CUT_AXES`, or another word for an axis that is never cut.
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


@dataclass(frozen=True)
class Layout:
    """The axes of all tensors of a model.

    Attributes:
        family: The model's family.
        architecture: The model's sizes.
        slots: All tensors of the state dict, in order.
    """

    family: Family
    architecture: Architecture
    slots: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, family: Family, model: PreTrainedModel) -> "Layout":
        """Apply the family's table to a model.

        Raises:
            Mismatch: The table does not name a tensor, or its shape differs from the entry.
            Unsupported: A model of this configuration cannot be cut.
        """
        if reason := family.refusal(model.config):
            raise Unsupported(f"{model.config.model_type} of this configuration: {reason}")
        tensors = model.state_dict()
        prefix = f"{model.base_model_prefix}."
        rules = {name: _rule(family, model.config, name.removeprefix(prefix)) for name in tensors}
        own = _architecture(family, model.config, tensors, rules, _depths(family, tensors, prefix))
        tied = is_tied(model, model.get_output_embeddings())
        slots = (_slot(family, own, rules[name], prefix, name, t) for name, t in tensors.items())
        scaled = (_with_factor(family, model.config, slot, prefix, tied=tied) for slot in slots)
        first = first_names(model)  # the same memory may have several names
        tied_to = ((s, "" if first[s.name] == s.name else first[s.name]) for s in scaled)
        return cls(family, own, tuple(replace(slot, tied_to=name) for slot, name in tied_to))

    @cached_property
    def depths(self) -> dict[str, int]:
        """Number of layers of each stack; 1 for entries of `Family.stacks` without layers."""
        found: dict[str, int] = {}
        for slot in self.slots:
            if slot.layer is not None:
                found[slot.stack] = max(found.get(slot.stack, 0), slot.layer + 1)
        return found

    @cached_property
    def sites(self) -> dict[tuple[str, int], frozenset[str]]:
        """The kinds of units that each layer has, by stack and number."""
        found: dict[tuple[str, int], set[str]] = {}
        for slot in self.slots:
            if slot.layer is not None:
                units = found.setdefault((slot.stack, slot.layer), set())
                units |= {part.unit for parts in slot.dimensions for part in parts if part.stack}
        return {place: frozenset(units) for place, units in found.items()}

    def depth_of(self, stack: str, student: Architecture) -> int:
        """Return the number of layers of a stack in the student."""
        size = self.family.depths.get(stack)
        return student.sizes().get(size, 0) if size else self.depths[stack]

    def reading(self, model: nn.Module) -> Iterator[tuple[nn.Module, TensorSpec, str]]:
        """Find the projections from heads or neurons into the residual stream, in order.

        Yields:
            The module, its weight's slot, and its inputs: ``heads``, ``cross_heads`` or ``ffn``.
        """
        for module, slot in self._linear(model):
            read, written = _read_and_written(module, slot)
            if read in {"heads", "cross_heads", "ffn"} and written == "hidden":
                yield module, slot, read

    def readers(self, model: nn.Module) -> Iterator[tuple[nn.Module, TensorSpec]]:
        """Yield the projections that read vectors of the residual stream's width, in order."""
        for module, slot in self._linear(model):
            if _read_and_written(module, slot)[0] == "hidden":
                yield module, slot

    def _linear(self, model: nn.Module) -> Iterator[tuple[nn.Module, TensorSpec]]:
        modules = dict(model.named_modules())
        for slot in self.slots:
            module = modules.get(slot.name.removesuffix(".weight"))
            if isinstance(module, nn.Linear | Conv1D):
                yield module, slot

    def norms(self, model: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
        """Yield the norms of the base model's residual stream, and whether they are a decoder's."""
        modules = dict(model.named_modules())
        base: nn.Module = model.base_model  # type: ignore[assignment]
        inside = {id(module) for module in base.modules()}
        for slot in self.slots:
            name, _, kind = slot.name.rpartition(".")
            if kind == "weight" and slot.axes == ("hidden",) and id(modules[name]) in inside:
                yield modules[name], slot.stack == "decoder" or "decoder." in name

    def experts(self, model: nn.Module) -> Iterator[tuple[nn.Module, TensorSpec]]:
        """Yield the modules that hold all experts of a layer, in order."""
        modules = dict(model.named_modules())
        for slot in self.slots:
            if slot.axes == ("experts", "hidden", "expert_ffn"):
                yield modules[slot.name.rpartition(".")[0]], slot


def reading_dimension(module: nn.Module) -> int:
    """Return the dimension of a linear layer's weight that indexes its inputs."""
    return 0 if isinstance(module, Conv1D) else 1


def _read_and_written(module: nn.Module, slot: TensorSpec) -> tuple[str, str]:
    """Return the input and output axes of a linear layer."""
    at = reading_dimension(module)
    return slot.axes[at], slot.axes[1 - at]


Rule = tuple[str, tuple[str, ...]]


def _rule(family: Family, config: PretrainedConfig, name: str) -> Rule:
    """Return the table's entry for a tensor, with aliases of the hidden axis resolved."""
    entry, axes = family.rule(name)
    width = family.field_of(config, "hidden_size")
    hidden = {f for f in family.as_hidden if getattr(config, f, width) in {width, None}}
    return entry, tuple("hidden" if axis in hidden else axis for axis in axes)


def _architecture(
    family: Family,
    config: PretrainedConfig,
    tensors: Mapping[str, Tensor],
    rules: Mapping[str, Rule],
    depths: Mapping[str, int],
) -> Architecture:
    """Read the sizes from the tensors, and the number of heads from the configuration."""
    sizes, channels = dict.fromkeys((SIZE_OF[unit] for unit in _READ), 0), 0
    heads = family.field_of(config, "num_attention_heads")
    for name, tensor in tensors.items():
        for axis, size in zip(rules[name][1], tensor.shape, strict=False):
            words = axis.split("+")
            if len(set(words)) == 1 and words[0] in _READ:
                sizes[SIZE_OF[words[0]]] = size // len(words)
            if axis == "heads":
                channels = size
    kv_heads = "num_key_value_heads" in family.sizes and family.field_of(
        config, "num_key_value_heads"
    )
    routed = getattr(config, "num_experts_per_tok", 0) if sizes["num_experts"] else 0
    counted: dict[str, Any] = {**depths, **sizes}
    return Architecture(
        model_type=config.model_type,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        head_dim=channels // heads,
        num_experts_per_tok=routed,
        **counted,
    )


def _depths(family: Family, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, int]:
    """Count the layers of each stack; some heads use only the encoder."""
    depths = {}
    for stack, size in family.depths.items():
        pattern = compiled(f"{family.stacks[stack]}.")
        relative = (name.removeprefix(prefix) for name in tensors)
        numbers = {int(found[1]) for name in relative if (found := pattern.match(name))}
        if numbers:
            depths[size] = len(numbers)
    if "num_hidden_layers" not in depths:
        raise Unsupported(
            f"a {family.name} without layers in {next(iter(family.stacks.values()))}: it is only "
            "the decoder of a pair; give the checkpoint of the pair, with the task it is for"
        )
    return depths


def _slot(
    family: Family, own: Architecture, rule: Rule, prefix: str, name: str, tensor: Tensor
) -> TensorSpec:
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


def _part(word: str, stack: str, own: Architecture, size: int) -> Part:
    named, _, bare = word.rpartition(".")
    unit, times = ROWS.get(bare, (ALIASES.get(bare, bare), 0))
    if unit not in CUT_AXES:
        return Part(unit, "", 1, size)
    rows = times * own.head_dim or 1
    place = "" if unit in {"hidden", "vocab"} else named or stack
    return Part(unit, place, rows, rows * own.units(unit))


def _with_factor(
    family: Family, config: PretrainedConfig, slot: TensorSpec, prefix: str, *, tied: bool
) -> TensorSpec:
    """Set ``factor`` if the family's forward pass scales this tensor's module by the width."""
    module = slot.name.removeprefix(prefix).rpartition(".")[0]
    for factor in family.factors:
        on = not factor.when or getattr(config, factor.when, False)
        if on and (tied or not factor.tied_only) and compiled(factor.module).fullmatch(module):
            return replace(slot, factor=(factor.power, factor.offset))
    return slot
