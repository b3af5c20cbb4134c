"""The sizes of a model, and how ratios scale them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import lcm

from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.families.family import family_of

RATIOS = {
    "layers": "num_hidden_layers",
    "decoder_layers": "num_decoder_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "intermediate": "intermediate_size",
    "experts": "num_experts",
    "moe_intermediate": "moe_intermediate_size",
    "vocab": "vocab_size",
}
"""The names of ratios, and the size that each one scales."""

DEPTHS = ("num_hidden_layers", "num_decoder_layers")
"""The depth of each stack: the only or the encoder's, then the decoder's."""

SIZE_OF = {
    "hidden": "hidden_size",
    "vocab": "vocab_size",
    "heads": "num_attention_heads",
    "cross_heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn": "intermediate_size",
    "experts": "num_experts",
    "expert_ffn": "moe_intermediate_size",
}
"""The axes of a family's table that can be cut, and the size that counts the units of each."""

_KEY = re.compile(
    r"-l(?P<num_hidden_layers>\d+)-d(?P<hidden_size>\d+)-h(?P<num_attention_heads>\d+)"
    r"-kv(?P<num_key_value_heads>\d+)x\d+-f(?P<intermediate_size>\d+)-v(?P<vocab_size>\d+)"
    r"(?:-dl(?P<num_decoder_layers>\d+))?(?:-e(?P<num_experts>\d+))?"
    r"(?:-ef(?P<moe_intermediate_size>\d+))?"
)
"""The sizes in `Architecture.key`."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model, under their Hugging Face configuration names.

    Attributes:
        model_type: The ``model_type`` of the configuration, which names the family.
        num_hidden_layers: Depth of the only stack or of the encoder.
        hidden_size: Width of the residual stream.
        num_attention_heads: Query heads of each layer.
        num_key_value_heads: Key and value heads of each layer; each serves one group of query
            heads.
        head_dim: Channels of one head; always the teacher's.
        intermediate_size: Width of each feed-forward network; 0 if all are experts.
        vocab_size: Rows of the embedding; 0 without tokens.
        num_decoder_layers: Depth of the decoder of an encoder-decoder; else 0.
        num_experts: Experts of each layer that has them; 0 without experts.
        moe_intermediate_size: Width of each expert.
        num_experts_per_tok: Experts that a token is routed to; always the teacher's.
    """

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    num_decoder_layers: int = 0
    num_experts: int = 0
    moe_intermediate_size: int = 0
    num_experts_per_tok: int = 0

    def sizes(self) -> dict[str, int]:
        """Return the non-zero sizes by their configuration names."""
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in given if isinstance(value, int) and value}

    def units(self, axis: str) -> int:
        """Return the number of units along an axis of the family's table."""
        return int(getattr(self, SIZE_OF[axis]))

    def text_key(self) -> str:
        """Return the sizes as the first part of an `Architecture.key`."""
        optional = {
            "dl": self.num_decoder_layers,
            "e": self.num_experts,
            "ef": self.moe_intermediate_size,
        }
        more = "".join(f"-{name}{size}" for name, size in optional.items() if size)
        return (
            f"{self.model_type}-l{self.num_hidden_layers}-d{self.hidden_size}"
            f"-h{self.num_attention_heads}-kv{self.num_key_value_heads}x{self.head_dim}"
            f"-f{self.intermediate_size}-v{self.vocab_size}{more}"
        )

    def whole_axes(self, teacher: "Sizes") -> frozenset[str]:
        """Return the axes of the family's table along which all of the teacher's units stay."""
        same = {size for size in SIZE_OF.values() if getattr(self, size) == getattr(teacher, size)}
        whole = {axis for axis, size in SIZE_OF.items() if size in same}
        # key-value heads are chosen by ranking their query heads
        return frozenset(whole if "kv_heads" in whole else whole - {"heads"})

    def scaled_sizes(self, ratios: Mapping[str, float], multiple_of: int) -> dict[str, int]:
        """Return the sizes of a model scaled by ratios; see `Architecture.scaled`."""
        self._check(ratios)
        hidden_size, query_heads, kv_heads = self._attention(ratios, multiple_of)
        experts = _whole(self.num_experts, ratios["experts"])
        experts_width = _snap(self.moe_intermediate_size, ratios["moe_intermediate"], multiple_of)
        return {
            "num_hidden_layers": _whole(self.num_hidden_layers, ratios["layers"]),
            "num_decoder_layers": _whole(self.num_decoder_layers, ratios["decoder_layers"]),
            "hidden_size": hidden_size,
            "num_attention_heads": query_heads,
            "num_key_value_heads": kv_heads,
            "intermediate_size": self._ffn(hidden_size, ratios["intermediate"], multiple_of),
            "num_experts": max(self.num_experts_per_tok, experts),
            "moe_intermediate_size": experts_width,
            "vocab_size": _snap(self.vocab_size, ratios["vocab"], multiple_of),
        }

    def _check(self, ratios: Mapping[str, float]) -> None:
        """Raise if a ratio is invalid, or if this model cannot be cut along its size."""
        family = family_of(self.model_type)
        for name, ratio in ratios.items():
            check_ratio(name, ratio)
            size = RATIOS[name]
            if ratio == 1.0:
                continue
            if size in family.whole:
                raise Infeasible(f"{self.model_type} keeps all of {name}: {family.whole[size]}")
            if family.heads_follow_hidden and name in {"heads", "kv_heads"}:
                raise Infeasible(
                    f"{self.model_type} has no head_dim of its own: its hidden size is heads x "
                    f"{self.head_dim}, so heads follow the hidden size; set hidden, not heads"
                )
            if size not in family.knobs or not getattr(self, size):
                raise Infeasible(f"{self.model_type}: this model has no {name} to take a ratio of")

    def _attention(self, ratios: Mapping[str, float], multiple_of: int) -> tuple[int, int, int]:
        """Return hidden size, query heads and key-value heads that fit together."""
        family = family_of(self.model_type)
        if family.heads_follow_hidden:
            width = _snap(self.hidden_size, ratios["hidden"], lcm(multiple_of, self.head_dim))
            return width, width // self.head_dim, width // self.head_dim
        kv, query = self._head_counts(ratios["heads"], ratios["kv_heads"])
        return self._accepted_width(ratios["hidden"], query, kv, multiple_of), query, kv

    def _ffn(self, hidden_size: int, ratio: float, multiple_of: int) -> int:
        """Return the feed-forward width; in some families a multiple of the hidden size."""
        if not family_of(self.model_type).ffn_multiple:
            return _snap(self.intermediate_size, ratio, multiple_of)
        return hidden_size * _whole(self.intermediate_size // self.hidden_size, ratio)

    def _head_counts(self, heads: float, kv_heads: float) -> tuple[int, int]:
        """Return key-value heads and query heads, with groups of equal size."""
        group = self.num_attention_heads // self.num_key_value_heads
        # groups of one query head can only be dropped whole
        kv_ratio = min(heads, kv_heads) if group == 1 else kv_heads
        kv = _whole(self.num_key_value_heads, kv_ratio)
        in_group = min(group, max(1, nearest(self.num_attention_heads, heads / kv)))
        return kv, kv * in_group

    def _accepted_width(self, hidden: float, heads: int, kv: int, multiple_of: int) -> int:
        """Return the hidden size nearest to the ratio that the configuration class accepts."""
        wanted = self.hidden_size * hidden
        choices = {*range(multiple_of, self.hidden_size, multiple_of), self.hidden_size}
        if hidden == 1.0:
            choices = {self.hidden_size}
        reasons = ""
        for width in sorted(choices, key=lambda choice: (abs(choice - wanted), -choice)):
            student = replace(
                self, hidden_size=width, num_attention_heads=heads, num_key_value_heads=kv
            )
            reasons = family_of(self.model_type).objection(student.model_type, student.sizes())
            if not reasons:
                return int(width)
        raise Infeasible(
            f"{self.model_type} with {heads} heads in {kv} groups: no hidden size near "
            f"{wanted:g} in multiples of {multiple_of} is accepted ({reasons})"
        )


def sizes_in(key: str) -> dict[str, int]:
    """Return the sizes in an architecture's `key`, by their configuration names; 0 without one."""
    found = _KEY.search(key)
    if found is None:
        return dict.fromkeys(_KEY.groupindex, 0)
    return {name: int(size or 0) for name, size in found.groupdict().items()}


def family_in(key: str) -> str:
    """Return the ``model_type`` in an architecture's `key`."""
    found = _KEY.search(key)
    return key if found is None else key[: found.start()]


def check_ratio(name: str, ratio: object) -> None:
    """Raise BadInput if the name of a ratio is unknown, or the ratio is outside (0, 1]."""
    if name.split(maxsplit=1)[0] not in RATIOS:
        raise BadInput(f"ratio {name!r}: expected one of {', '.join(RATIOS)}")
    if not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise BadInput(
            f"{name}={ratio!r}: expected a ratio above 0 and at most 1 (1 = the teacher)"
        )


def nearest(full: int, ratio: float) -> int:
    """Multiply a size by a ratio and round to the nearest integer, halves up."""
    if ratio == 1:
        return full
    # exact arithmetic avoids floating-point errors: 0.1 of 30 is 3
    exact = full * Fraction(ratio).limit_denominator(10_000)
    return int(exact + Fraction(1, 2))


def _whole(full: int, ratio: float) -> int:
    """Scale a count, at least 1; 0 stays 0."""
    return max(1, nearest(full, ratio)) if full else 0


def _snap(full: int, ratio: float, multiple_of: int) -> int:
    """Scale a width to the nearest multiple; a ratio of 1.0 leaves it unchanged."""
    if ratio == 1.0 or not full:
        return full
    return min(full, max(multiple_of, nearest(full, ratio / multiple_of) * multiple_of))
