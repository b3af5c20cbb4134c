"""The layout of a model: the axes of each of its tensors, by its family's table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import kept_layers
from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.checkpoints.pooling import Pooling
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import Unsupported
from protege.spaces.families.family import Family, compiled
from protege.spaces.models.sharing import first_names, is_tied
from protege.spaces.models.tensors import (
    Rule,
    TensorSpec,
    reading_dimension,
    rule_of,
    spec_of,
    with_factor,
)

Place = tuple[str, int]
"""A site, such as ``decoder.cross_heads``, and the layer's number."""

_READ = ("hidden", "vocab", "ffn", "experts", "expert_ffn")
"""Axes whose size is read from the tensors; only the configuration has the number of heads."""


@dataclass(frozen=True)
class Layout:
    """The family, the sizes, and the axes of all tensors of a model, in the state dict's order."""

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
        rules = {name: rule_of(family, model.config, name.removeprefix(prefix)) for name in tensors}
        own = _architecture(family, model.config, tensors, rules, _depths(family, tensors, prefix))
        tied = is_tied(model, model.get_output_embeddings())
        slots = (spec_of(family, own, rules[name], prefix, name, t) for name, t in tensors.items())
        scaled = (with_factor(family, model.config, slot, prefix, tied=tied) for slot in slots)
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

    def layers_of(self, student: Architecture, stack: str) -> tuple[int, ...]:
        """Return the layers of a stack that a student's policy keeps."""
        total, size = self.depths[stack], self.family.depths.get(stack)
        count = student.sizes().get(size, 0) if size else total
        return kept_layers(student.layer_policy, total, count, stack)

    def equal_importance(self) -> dict[str, Tensor]:
        """Return an importance of one for every unit, by the names of `Calibration`."""
        own = self.architecture
        found = {"hidden": torch.ones(own.hidden_size), "vocab": torch.ones(own.vocab_size)}
        for (stack, _), units in self.sites.items():
            layers = self.depths[stack]
            for unit in units - {"kv_heads"}:
                shape = [layers, own.units(unit)]
                if unit == "expert_ffn":
                    shape.insert(1, own.num_experts)
                found[f"{stack}.{unit}"] = torch.ones(shape)
        return found

    def layers(self, model: nn.Module) -> dict[str, list[nn.Module]]:
        """Return the layers of each stack in order, of this model or of another of its depth."""
        modules = dict(model.named_modules())
        found: dict[str, dict[int, nn.Module]] = {}
        for slot in self.slots:
            if slot.stack in self.family.depths and slot.layer is not None:
                name = slot.name[: slot.number_at[1]]
                found.setdefault(slot.stack, {})[slot.layer] = modules[name]
        return {stack: [layers[n] for n in sorted(layers)] for stack, layers in found.items()}

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


class LaidOutModel(Protocol):
    """A loaded model in evaluation mode, with its layout; `Teacher` implements it."""

    @property
    def model(self) -> PreTrainedModel: ...
    @property
    def processor(self) -> Any: ...
    @property
    def task(self) -> Task: ...
    @property
    def family(self) -> Family: ...
    @property
    def pooling(self) -> Pooling | None: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def config(self) -> PretrainedConfig: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def architecture(self) -> Architecture: ...
    @property
    def generates(self) -> bool: ...
    @property
    def has_logits(self) -> bool: ...
    @property
    def token_vectors(self) -> Tensor: ...

    def with_model(self, model: PreTrainedModel, pooling: Pooling | None) -> "LaidOutModel":
        """Return this with another model of the family and its pooling."""


def _read_and_written(module: nn.Module, slot: TensorSpec) -> tuple[str, str]:
    """Return the input and output axes of a linear layer."""
    at = reading_dimension(module)
    return slot.axes[at], slot.axes[1 - at]


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
