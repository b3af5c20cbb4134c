"""What a family is: a table that says, for every tensor, which axes it is made of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PretrainedConfig

from protege.spaces.errors import Infeasible, Mismatch

CUT_AXES = ("hidden", "heads", "kv_heads", "ffn")
"""Axes that a student can have fewer units of; all others are kept whole."""

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Family:
    """One architecture family, declared.

    Attributes:
        name: The family's name in messages.
        model_types: Values of ``model_type`` in the configurations it covers.
        tensors: For each module that owns tensors, named relative to the base model, the axes of
            its ``weight`` in order; a ``bias`` has the first of them. ``*`` stands for a layer's
            number, ``{a,b}`` for either name. The cuttable axes are `CUT_AXES`; ``heads`` and
            ``kv_heads`` count heads, each a block of ``head_dim`` rows.
        knobs: Configuration fields that a student's sizes are written to.
        per_layer: Configuration fields that hold one entry for each layer.
    """

    name: str
    model_types: tuple[str, ...]
    tensors: Mapping[str, str]
    knobs: tuple[str, ...]
    per_layer: tuple[str, ...] = ()

    @property
    def heads_follow_hidden(self) -> bool:
        """Whether the configuration derives the size of a head from the hidden size."""
        return "head_dim" not in self.knobs

    def axes(self, name: str) -> tuple[str, ...]:
        """The axes of one tensor, named relative to the base model.

        Raises:
            Mismatch: No rule, or more than one, covers the tensor.
        """
        module, _, kind = name.rpartition(".")
        found = [axes for pattern, axes in self._rules if pattern.fullmatch(module)]
        if len(found) != 1 or kind not in {"weight", "bias"}:
            raise Mismatch(
                f"tensor {name!r}: expected one rule of the {self.name} table to name it, "
                f"found {len(found)}; nothing is cut by guess"
            )
        return found[0] if kind == "weight" else found[0][:1]

    def layer(self, name: str) -> int | None:
        """The number of the layer that a tensor belongs to; none for what stands outside."""
        match = _LAYER.search(name)
        return int(match.group(1)) if match else None

    def in_layer(self, name: str, layer: int) -> str:
        """The tensor's name in another layer."""
        return _LAYER.sub(f".{layer}.", name, count=1)

    def modules(self, axes: str) -> list[re.Pattern[str]]:
        """Patterns of the modules whose weight is made of exactly these axes."""
        return [pattern for pattern, found in self._rules if found == tuple(axes.split())]

    def configure(
        self, config: PretrainedConfig, sizes: Mapping[str, int], layers: tuple[int, ...]
    ) -> PretrainedConfig:
        """The student's configuration: the teacher's, with its sizes and its layers' entries.

        Raises:
            Infeasible: The configuration class refuses the sizes.
        """
        fields: dict[str, Any] = config.to_dict()
        # a model loaded from GGUF carries this long after its weights are plain floats
        fields.pop("quantization_config", None)
        fields.update({name: sizes[name] for name in self.knobs})
        for name in self.per_layer:
            if fields.get(name) is not None:
                fields[name] = [fields[name][layer] for layer in layers]
        try:
            return type(config)(**fields)
        except (StrictDataclassError, ValueError) as error:
            raise Infeasible(
                f"{config.model_type} of sizes {dict(sizes)}: {_reason(error)}"
            ) from error

    def objection(self, model_type: str, sizes: Mapping[str, int]) -> str:
        """Why the configuration class refuses the sizes; empty if it does not."""
        return _objection(model_type, tuple((name, sizes[name]) for name in self.knobs))

    @cached_property
    def _rules(self) -> list[tuple[re.Pattern[str], tuple[str, ...]]]:
        return [(_compile(name), tuple(axes.split())) for name, axes in self.tensors.items()]


def _compile(name: str) -> re.Pattern[str]:
    pattern = re.escape(name).replace(r"\*", r"\d+")
    return re.compile(re.sub(r"\\{(.*?)\\}", lambda m: f"(?:{m[1].replace(',', '|')})", pattern))


@lru_cache(maxsize=100_000)
def _objection(model_type: str, sizes: tuple[tuple[str, int], ...]) -> str:
    try:
        fields: dict[str, Any] = dict(sizes)
        CONFIG_MAPPING[model_type](**fields)
    except (StrictDataclassError, ValueError) as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """The last line of the configuration class's message: the rule that was broken."""
    return str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
