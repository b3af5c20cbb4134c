"""What a family is: a table that says, for every tensor, which axes it is made of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from protege.spaces.errors import Infeasible, Mismatch, Unsupported

if TYPE_CHECKING:
    from transformers import PretrainedConfig

IN_LAYERS = ("heads", "cross_heads", "kv_heads", "ffn", "experts", "expert_ffn")
"""Axes that every layer has units of its own of."""

CUT_AXES = ("hidden", "vocab", *IN_LAYERS)
"""Axes that a student can have fewer units of; all others are kept whole."""

ROWS = {
    "heads": ("heads", 1),
    "cross_heads": ("cross_heads", 1),
    "kv_heads": ("kv_heads", 1),
    "qkv_heads": ("heads", 3),
}
"""Words of a table that stand for heads: the unit, and how often `head_dim` rows each has."""

ALIASES = {"head": "heads"}
"""Words that stand for a unit with a single row for each, such as a bias for each head."""

STEM = (
    "embeddings",
    "embed_tokens",
    "{encoder,decoder}.{embed_tokens,embed_positions,layernorm_embedding}",
)
"""Modules that stand before the first layer, as most families call them."""


@dataclass(frozen=True)
class WidthFactor:
    """A factor in a forward pass that follows the width of the model, made up for in its weights.

    Gemma multiplies embeddings by the square root of the hidden size: a narrower student would
    multiply by less. Its rows are scaled by what is missing, and where they are the head's rows
    too, the gain of the norm before the head by the inverse.

    Attributes:
        module: The module whose tensors are scaled, as in the table.
        power: Of the teacher's width over the student's.
        when: Configuration field that switches the factor on; always on if empty.
        tied_only: Whether it matters only where the head shares the embedding's rows.
        offset: What the module adds to its weight: a gain of ``1 + weight`` has 1.
    """

    module: str
    power: float
    when: str = ""
    tied_only: bool = False
    offset: float = 0.0


@dataclass(frozen=True)
class Family:
    """One architecture family, declared.

    A table's entry names the axes of a module's ``weight`` in order; a ``bias`` has the first of
    them. The name is relative to the base model; ``*`` stands for a number, ``{a,b}`` for either
    name; an entry whose name ends in ``.weight`` or ``.bias``, or that owns a bare parameter, is of
    that tensor alone. Axes are those of `CUT_AXES`, the words of `ROWS` and `ALIASES`, and any
    other word for what is kept whole. ``a+b`` is one axis after the other in one dimension,
    ``encoder.head`` the heads of that stack where a tensor stands outside its layers.

    Attributes:
        name: The family's name in messages.
        model_types: Values of ``model_type`` in the configurations it covers.
        tensors: The table.
        sizes: For each size of an `Architecture`, the configuration fields it is written to.
        stacks: Where the layers of each stack are. The first that has a ``*`` is as deep as
            ``num_hidden_layers``, the second as ``num_decoder_layers``; one without is no layer of
            a stack, but has heads or neurons of its own.
        per_layer: Configuration fields that hold one entry for each layer of the first stack.
        layer_bounds: Fields that count the first layers up to a place.
        dense_layers: Field that lists the layers without experts.
        reset: Fields that are written with a fixed value, for the lists above say it all.
        derived: Fields that the configuration class makes of others; left to it.
        as_hidden: Fields that in most checkpoints are the hidden size. Where they are, the axis of
            that name is the hidden one; elsewhere it is kept whole.
        shared: Axes of which all layers of a stack keep the same units.
        whole: Sizes that are never cut, with the reason.
        refused: Fields that, if set, make a model that cannot be cut, with the reason.
        first_layer_stays: Fields that, if set, tie the first layer to its place.
        factors: What follows the width in the forward pass.
        ffn_multiple: Field that holds the feed-forward width as a whole multiple of the hidden one.
        gain_offset: What norms add to their weights before they multiply by them.
        turns: Whether the residual stream may be rotated: it is a sum of embeddings and of what
            projections write, and everything that reads it reads it normed.
        reads_aside: Whether a module reads weights of another one without calling it, which no hook
            of accelerate's sees: these must be in memory.
        stem: Modules that stand before or beside the first layer, as in the table.
    """

    name: str
    model_types: tuple[str, ...]
    tensors: Mapping[str, str]
    sizes: Mapping[str, str]
    stacks: Mapping[str, str]
    per_layer: tuple[str, ...] = ()
    layer_bounds: tuple[str, ...] = ()
    dense_layers: str = ""
    reset: Mapping[str, Any] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    as_hidden: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    first_layer_stays: tuple[str, ...] = ()
    factors: tuple[WidthFactor, ...] = ()
    ffn_multiple: str = ""
    gain_offset: float = 0.0
    turns: bool = False
    reads_aside: bool = False
    stem: tuple[str, ...] = STEM

    @property
    def heads_follow_hidden(self) -> bool:
        """Whether the configuration derives the size of a head from the hidden size."""
        return "head_dim" not in self.sizes

    @property
    def knobs(self) -> tuple[str, ...]:
        """The sizes that a student may have fewer of, by their names in an `Architecture`."""
        fixed = {"head_dim", *self.whole}
        if self.heads_follow_hidden:
            fixed |= {"num_attention_heads", "num_key_value_heads"}
        free = tuple(name for name in self.sizes if name not in fixed)
        return (*free, "intermediate_size") if self.ffn_multiple else free

    @property
    def depths(self) -> dict[str, str]:
        """For each stack of layers, the size that says how deep it is."""
        deep = [stack for stack, place in self.stacks.items() if "*" in place]
        return dict(zip(deep, ("num_hidden_layers", "num_decoder_layers"), strict=False))

    def rule(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The entry that covers a tensor, and the tensor's axes.

        Args:
            name: The tensor's name, relative to the base model.

        Raises:
            Mismatch: No entry, or more than one, covers the tensor.
        """
        exact = [(entry, axes) for entry, pattern, axes in self._rules if pattern.fullmatch(name)]
        if len(exact) == 1:
            return exact[0]
        module, _, kind = name.rpartition(".")
        found = [(entry, axes) for entry, pattern, axes in self._rules if pattern.fullmatch(module)]
        if exact or len(found) != 1 or kind not in {"weight", "bias"}:
            raise Mismatch(
                f"tensor {name!r}: expected one rule of the {self.name} table to name it, "
                f"found {len(exact) or len(found)}; nothing is cut by guess"
            )
        entry, axes = found[0]
        return entry, axes if kind == "weight" else axes[:1]

    def is_stem(self, name: str) -> bool:
        """Whether a tensor, named relative to the base model, stands before the first layer."""
        return any(compiled(f"{place}.").match(f"{name}.") for place in self.stem)

    def refusal(self, config: "PretrainedConfig") -> str:
        """Why a model of that configuration cannot be cut; empty if it can."""
        reasons = (why for name, why in self.refused.items() if getattr(config, name, None))
        return next(reasons, "")

    def field_of(self, config: "PretrainedConfig", size: str) -> int:
        """A size as the configuration states it; 0 where it states none.

        Raises:
            Unsupported: Fields that are written with one size differ.
        """
        names = self.sizes[size].split()
        stated = {int(getattr(config, name, None) or 0) for name in names}
        if len(stated) > 1:
            raise Unsupported(
                f"{config.model_type} with {' and '.join(names)} that differ "
                f"({', '.join(map(str, sorted(stated)))}): expected one {size} for both stacks"
            )
        return stated.pop()

    def written(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes as configuration fields."""
        fields = {
            name: sizes[size]
            for size, names in self.sizes.items()
            if sizes.get(size)
            for name in names.split()
        }
        if self.ffn_multiple:
            fields[self.ffn_multiple] = sizes["intermediate_size"] // sizes["hidden_size"]
        return fields

    def built(self, config: "PretrainedConfig", fields: dict[str, Any]) -> "PretrainedConfig":
        """A configuration of the teacher's class with these fields.

        Raises:
            Infeasible: The class refuses them.
        """
        # a model loaded from GGUF carries this long after its weights are plain floats
        fields.pop("quantization_config", None)
        try:
            return type(config)(**fields)
        except (StrictDataclassError, ValueError) as error:
            raise Infeasible(f"{config.model_type} student: {_reason(error)}") from error

    def objection(self, model_type: str, sizes: Mapping[str, int]) -> str:
        """Why the configuration class refuses the sizes; empty if it does not."""
        fields = self.written(sizes)
        fields.pop("vocab_size", None)  # no class has one that it refuses
        return _objection(model_type, tuple(fields.items()))

    @cached_property
    def _rules(self) -> list[tuple[str, re.Pattern[str], tuple[str, ...]]]:
        return [(name, compiled(name), tuple(axes.split())) for name, axes in self.tensors.items()]


def compiled(name: str) -> re.Pattern[str]:
    """The pattern of an entry's name; each ``*`` is a group that holds the number."""
    pattern = re.escape(name).replace(r"\*", r"(\d+)")
    return re.compile(re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", pattern))


def positions(numbers: Sequence[int], kept: Sequence[int]) -> list[int]:
    """Where the layers of these numbers come to lie among the kept ones."""
    return [place for place, number in enumerate(kept) if number in numbers]


@lru_cache(maxsize=100_000)
def _objection(model_type: str, fields: tuple[tuple[str, int], ...]) -> str:
    try:
        sizes: dict[str, Any] = dict(fields)
        from transformers import CONFIG_MAPPING  # seconds, which readers of records do not pay

        CONFIG_MAPPING[model_type](**sizes)
    except (StrictDataclassError, ValueError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """The last line of the configuration class's message: the rule that was broken."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
