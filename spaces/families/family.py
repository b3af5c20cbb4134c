"""A family: a table with the axes of every tensor of a model type."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from protege.spaces.errors import Infeasible, Mismatch, Unsupported

if TYPE_CHECKING:
    from transformers import PretrainedConfig

STEM = (
    "embeddings",
    "embed_tokens",
    "{encoder,decoder}.{embed_tokens,embed_positions,layernorm_embedding}",
)
"""The usual names of modules before the first layer."""

POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions")
"""Configuration fields for the number of positions."""


@dataclass(frozen=True)
class WidthFactor:
    """A factor in the forward pass that depends on the width, compensated in the weights.

    Gemma multiplies embeddings by the square root of the hidden size, so a narrower student would
    multiply by less. Its embedding is scaled up by the ratio, and with a tied head the gain of the
    last norm is scaled down.

    Attributes:
        module: The module whose tensors are scaled, as in the table.
        power: Power of the teacher's width over the student's.
        when: Configuration field that switches the factor on; always on if empty.
        tied_only: Whether it applies only with a tied head.
        offset: Offset that the module adds to its weight; 1 for a gain of ``1 + weight``.
    """

    module: str
    power: float
    when: str = ""
    tied_only: bool = False
    offset: float = 0.0


@dataclass(frozen=True)
class Family:
    """The declaration of one architecture family.

    An entry of the table maps a module's name to the axes of its ``weight``, in order; a ``bias``
    has the first axis. Names are relative to the base model; ``*`` stands for a number, ``{a,b}``
    for either name. An entry whose name ends in ``.weight`` or ``.bias``, or that names a bare
    parameter, applies to that tensor only. Axes are those of `SIZE_OF`, ``qkv_heads`` (heads whose
    queries, keys and values are interleaved) and ``head`` (heads with one row each); any other word
    is an axis that is kept whole. ``a+b`` concatenates two axes in one dimension; ``encoder.head``
    means that stack's heads in a tensor outside its layers.

    Attributes:
        name: The family's name in messages.
        model_types: Values of ``model_type`` in the configurations that it covers.
        tensors: The table.
        sizes: For each size of an `Architecture`, the configuration fields that hold it.
        stacks: The name pattern of each stack's layers. The first one with a ``*`` has depth
            ``num_hidden_layers``, the second ``num_decoder_layers``. An entry without ``*`` is not
            a stack of layers, but has heads or neurons of its own.
        per_layer: Configuration fields with one entry for each layer of the first stack.
        layer_bounds: Fields that hold a number of first layers.
        dense_layers: Field that lists the layers without experts.
        reset: Fields that get a fixed value, because the lists above replace them.
        derived: Fields that the configuration class derives from others.
        as_hidden: Fields that usually equal the hidden size. If they do, the axis of that name is
            ``hidden``; otherwise it is kept whole.
        shared: Axes along which all layers of a stack keep the same units.
        whole: Sizes that are never cut, with the reason.
        refused: Fields that, if set, make a model that cannot be cut, with the reason.
        first_layer_stays: Fields that, if set, mean that the first layer must stay.
        factors: Factors in the forward pass that depend on the width.
        ffn_multiple: Field that holds the feed-forward width as a multiple of the hidden size.
        gain_offset: Offset that norms add to their weights.
        turns: Whether the residual stream can be rotated: it is a sum of embeddings and outputs of
            projections, and is read only through norms.
        reads_aside: Whether modules read weights of other modules without calling them, so that
            accelerate's hooks do not load these from disk.
        stem: Modules before or beside the first layer, as in the table.
        projections: The last names of the modules that compute queries, keys and values, if each
            has one of its own.
        ffn_matrices: Matrices of one feed-forward network: 3 with a gate, else 2.
        outputs: Field that holds the width of the model's outputs if it may differ from the hidden
            size; empty if it never does.
        first_position: Index of the position of a text's first token.
        counts_from_padding: Whether positions count from the padding id, after `first_position`.
        has_positions: Whether the number of positions bounds the length of texts; False for
            relative positions.
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
    projections: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj")
    ffn_matrices: int = 2
    outputs: str = ""
    first_position: int = 0
    counts_from_padding: bool = False
    has_positions: bool = True

    @property
    def heads_follow_hidden(self) -> bool:
        """Whether the configuration derives the size of a head from the hidden size."""
        return "head_dim" not in self.sizes

    @property
    def knobs(self) -> tuple[str, ...]:
        """The sizes that can be cut, by their names in an `Architecture`."""
        fixed = {"head_dim", *self.whole}
        if self.heads_follow_hidden:
            fixed |= {"num_attention_heads", "num_key_value_heads"}
        free = tuple(name for name in self.sizes if name not in fixed)
        return (*free, "intermediate_size") if self.ffn_multiple else free

    @property
    def depths(self) -> dict[str, str]:
        """The size that holds the depth of each stack of layers."""
        deep = [stack for stack, place in self.stacks.items() if "*" in place]
        return dict(zip(deep, ("num_hidden_layers", "num_decoder_layers"), strict=False))

    def rule(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Return the entry for a tensor, named relative to the base model, and the tensor's axes.

        Raises:
            Mismatch: Not exactly one entry matches the tensor.
        """
        exact = [(entry, axes) for entry, pattern, axes in self._rules if pattern.fullmatch(name)]
        if len(exact) == 1:
            return exact[0]
        module, _, kind = name.rpartition(".")
        found = [(entry, axes) for entry, pattern, axes in self._rules if pattern.fullmatch(module)]
        if exact or len(found) != 1 or kind not in {"weight", "bias"}:
            raise Mismatch(
                f"tensor {name!r}: expected one rule of the {self.name} table to name it, "
                f"found {len(exact) or len(found)}; add or correct the rule"
            )
        entry, axes = found[0]
        return entry, axes if kind == "weight" else axes[:1]

    def is_stem(self, name: str) -> bool:
        """Return whether a tensor, named relative to the base model, is before the first layer."""
        return any(compiled(f"{place}.").match(f"{name}.") for place in self.stem)

    def refusal(self, config: "PretrainedConfig") -> str:
        """Return why a model of a configuration cannot be cut; empty if it can."""
        reasons = (why for name, why in self.refused.items() if getattr(config, name, None))
        return next(reasons, "")

    def positions(self, fields: Mapping[str, Any]) -> int | None:
        """Return the maximum number of tokens by a configuration's fields; None if unbounded."""
        given = (fields.get(name) for name in POSITIONS)
        bound = next((int(one) for one in given if isinstance(one, int) and one > 0), None)
        if bound is None or not self.has_positions:
            return None
        # 1 is the configuration classes' own padding id
        pad = (fields.get("pad_token_id", 1) or 0) if self.counts_from_padding else 0
        return bound - pad - self.first_position

    def field_of(self, config: "PretrainedConfig", size: str) -> int:
        """Read a size from a configuration; 0 if it has none.

        Raises:
            Unsupported: The size has several fields, and they differ.
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
        """Return the sizes as configuration fields."""
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
        """Build a configuration of the teacher's class with these fields.

        Raises:
            Infeasible: The class refuses the fields.
        """
        # a model loaded from GGUF keeps this field although its weights are dequantised
        fields.pop("quantization_config", None)
        try:
            return type(config)(**fields)
        except (StrictDataclassError, ValueError) as error:
            raise Infeasible(f"{config.model_type} student: {_reason(error)}") from error

    def objection(self, model_type: str, sizes: Mapping[str, int]) -> str:
        """Return why the configuration class refuses the sizes; empty if it accepts them."""
        fields = self.written(sizes)
        fields.pop("vocab_size", None)  # every vocabulary size is accepted
        return _objection(model_type, tuple(fields.items()))

    @cached_property
    def _rules(self) -> list[tuple[str, re.Pattern[str], tuple[str, ...]]]:
        return [(name, compiled(name), tuple(axes.split())) for name, axes in self.tensors.items()]


REFUSED = {
    "albert": "all its layers share one set of weights, so that none can be dropped or narrowed "
    "alone; distil from a BERT or RoBERTa of the same vocabulary",
    "gemma3": "it reads images too; give the checkpoint of its text model (gemma3_text)",
    "gemma3n": "its last layers share keys and values with earlier ones",
}
"""Known model types that cannot be cut, with the reason."""

_KNOWN: dict[str, Family] = {}
"""The families by model type; the package registers them when it is imported."""


def register(*families: Family) -> tuple[Family, ...]:
    """Make families known to `family_of` and return them."""
    _KNOWN.update({name: family for family in families for name in family.model_types})
    return families


def family_of(model_type: str) -> Family:
    """Return the family of a ``model_type``.

    Raises:
        Unsupported: No family covers it.
    """
    if model_type in _KNOWN:
        return _KNOWN[model_type]
    if model_type in REFUSED:
        raise Unsupported(f"model type {model_type!r} cannot be cut: {REFUSED[model_type]}")
    raise Unsupported(
        f"model type {model_type!r} is not supported; supported are: {', '.join(_KNOWN)}. "
        "docs/adding-a-family.md explains how to add a family"
    )


def family_or_bare(model_type: str) -> Family:
    """Return the family of a ``model_type``, or one without a table to run a model of any type."""
    try:
        return family_of(model_type)
    except Unsupported:
        sizes = {name: name for name in ("hidden_size", "vocab_size")}
        return Family(model_type, (model_type,), tensors={}, sizes=sizes, stacks={})


def compiled(name: str) -> re.Pattern[str]:
    """Compile an entry's name to a pattern with one group for each ``*``."""
    pattern = re.escape(name).replace(r"\*", r"(\d+)")
    return re.compile(re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", pattern))


@lru_cache(maxsize=100_000)
def _objection(model_type: str, fields: tuple[tuple[str, int], ...]) -> str:
    try:
        sizes: dict[str, Any] = dict(fields)
        from transformers import CONFIG_MAPPING  # slow to import, not needed to read records

        CONFIG_MAPPING[model_type](**sizes)
    except (StrictDataclassError, ValueError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """Return the last line of the configuration class's message: the broken rule."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
