"""The sizes of a model, and the policies that choose which of its teacher's units it keeps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from math import lcm
from typing import Any

from protege.spaces.architecture.policies import (
    Findings,
    First,
    Healing,
    LayerPolicy,
    Uniform,
    WidthPolicy,
    check_healing,
    kept_layers,
)
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.families import family_of

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
    "heads": "num_attention_heads",
    "cross_heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn": "intermediate_size",
    "experts": "num_experts",
    "expert_ffn": "moe_intermediate_size",
    "vocab": "vocab_size",
}
"""For each axis of a family's table, the size that counts its units."""


_KEY = re.compile(
    r"-l(?P<num_hidden_layers>\d+)-d(?P<hidden_size>\d+)-h(?P<num_attention_heads>\d+)"
    r"-kv(?P<num_key_value_heads>\d+)x\d+-f(?P<intermediate_size>\d+)-v(?P<vocab_size>\d+)"
    r"(?:-dl(?P<num_decoder_layers>\d+))?(?:-e(?P<num_experts>\d+))?"
    r"(?:-ef(?P<moe_intermediate_size>\d+))?"
)
"""The sizes in `Architecture.key`."""


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model, under their Hugging Face configuration names, and its policies.

    Equal architectures give the same student. To that end, a policy that has nothing to cut is
    replaced by the default (see `with_policies`).

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
        layer_policy: Chooses the kept layers.
        width_policy: Chooses the kept channels, heads and neurons.
        healing: How the cut student is repaired; see `Healer`.
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
    layer_policy: LayerPolicy = Uniform()
    width_policy: WidthPolicy = First()
    healing: Healing = "none"

    def key(self) -> str:
        """Return the student's identity in studies, caches and file names."""
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
            f"-{self.layer_policy.name}-{self.width_policy.name}"
            f"{'' if self.healing == 'none' else f'-{self.healing}'}"
        )

    def sizes(self) -> dict[str, int]:
        """Return the non-zero sizes by their configuration names."""
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in given if isinstance(value, int) and value}

    def units(self, axis: str) -> int:
        """Return the number of units along an axis of the family's table."""
        return int(getattr(self, SIZE_OF[axis]))

    def whole_axes(self, teacher: "Architecture") -> frozenset[str]:
        """Return the axes of the family's table along which all of the teacher's units stay."""
        return frozenset(axis for axis in SIZE_OF if self._keeps(teacher, axis))

    def _keeps(self, teacher: "Architecture", axis: str) -> bool:
        # key-value heads are chosen by ranking their query heads
        sizes = [SIZE_OF[axis], *(["num_key_value_heads"] if axis == "heads" else [])]
        return all(getattr(self, size) == getattr(teacher, size) for size in sizes)

    def fields(self) -> dict[str, Any]:
        """Return all fields as JSON values, the policies by name."""
        policies = {"layer_policy": self.layer_policy.name, "width_policy": self.width_policy.name}
        chosen = {**policies, "healing": self.healing}
        return {"model_type": self.model_type, **self.sizes(), **chosen}

    def scaled(  # noqa: PLR0913 - one keyword a knob
        self,
        *,
        layers: float = 1.0,
        decoder_layers: float = 1.0,
        hidden: float = 1.0,
        heads: float = 1.0,
        kv_heads: float = 1.0,
        intermediate: float = 1.0,
        experts: float = 1.0,
        moe_intermediate: float = 1.0,
        vocab: float = 1.0,
        multiple_of: int = 8,
        layer_policy: LayerPolicy = Uniform(),
        width_policy: WidthPolicy = First(),
        healing: Healing = "none",
    ) -> "Architecture":
        """Scale this architecture by ratios, rounded to sizes that the family accepts.

        Depth is rounded to whole layers. Key-value heads are dropped in whole groups, query heads
        evenly from every group. Widths are rounded to the nearest multiple of ``multiple_of`` that
        the configuration class accepts; a ratio of 1.0 leaves a width unchanged. In families
        without ``head_dim`` in their configuration (BERT), ``hidden_size = heads * head_dim``, so
        heads follow the hidden size. A layer keeps at least as many experts as a token is routed
        to.

        Raises:
            BadInput: A ratio is outside (0, 1].
            Infeasible: The family has no model of these sizes, or the model lacks the size that a
                ratio scales.
        """
        given = (layers, decoder_layers, hidden, heads, kv_heads, intermediate)
        ratios = dict(zip(RATIOS, (*given, experts, moe_intermediate, vocab), strict=True))
        self._check(ratios)
        check_healing(healing)
        hidden_size, query_heads, kv = self._attention(ratios, multiple_of)
        student = replace(
            self,
            num_hidden_layers=_whole(self.num_hidden_layers, layers),
            num_decoder_layers=_whole(self.num_decoder_layers, decoder_layers),
            hidden_size=hidden_size,
            num_attention_heads=query_heads,
            num_key_value_heads=kv,
            intermediate_size=self._feed_forward(hidden_size, intermediate, multiple_of),
            num_experts=max(self.num_experts_per_tok, _whole(self.num_experts, experts)),
            moe_intermediate_size=_snap(self.moe_intermediate_size, moe_intermediate, multiple_of),
            vocab_size=_snap(self.vocab_size, vocab, multiple_of),
        )
        return self.with_policies(student, layer_policy, width_policy, healing)

    def with_policies(
        self,
        student: "Architecture",
        layer_policy: LayerPolicy,
        width_policy: WidthPolicy,
        healing: Healing = "none",
    ) -> "Architecture":
        """Return the student with these policies; policies with nothing to cut get the default.

        Raises:
            Infeasible: The layer policy cannot keep that many layers.
        """
        self.layers_kept(student, layer_policy)
        own_depths = {name: getattr(self, name) for name in DEPTHS}
        deep = all(getattr(student, name) == depth for name, depth in own_depths.items())
        wide = replace(student, **own_depths).sizes() == self.sizes()
        return replace(
            student,
            layer_policy=self.layer_policy if deep else layer_policy,
            width_policy=self.width_policy if wide else width_policy,
            healing=self.healing if deep and wide else healing,
        )

    def layers_kept(
        self, student: "Architecture", policy: LayerPolicy
    ) -> tuple[tuple[int, ...], ...]:
        """Return the layers of this teacher that a student keeps in each stack.

        Raises:
            Infeasible: The policy cannot keep that many layers.
        """
        return tuple(
            kept_layers(policy, getattr(self, size), getattr(student, size), stack)
            for stack, size in family_of(self.model_type).depths.items()
        )

    def resolved(self, calibration: Findings | None) -> "Architecture":
        """Return this architecture with its layer policy resolved to the kept layers.

        Raises:
            BadInput: The calibration lacks what the policy needs.
        """
        return replace(self, layer_policy=self.layer_policy.resolved(calibration))

    @property
    def looks_at_data(self) -> bool:
        """Whether building the student needs a calibration on data."""
        resolved = self.layer_policy.is_resolved
        return self.width_policy.needs_calibration or self.healing != "none" or not resolved

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

    def _feed_forward(self, hidden_size: int, ratio: float, multiple_of: int) -> int:
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

    def __str__(self) -> str:
        depth, heads = f"{self.num_hidden_layers}", f"{self.num_attention_heads}"
        if self.num_decoder_layers:
            depth += f"+{self.num_decoder_layers}"
        if self.num_key_value_heads != self.num_attention_heads:
            heads += f"/{self.num_key_value_heads}"
        parts = [f"{depth}x{self.hidden_size}", f"heads {heads}"]
        if self.intermediate_size:
            parts.append(f"ffn {self.intermediate_size}")
        if self.num_experts:
            parts.append(f"experts {self.num_experts}x{self.moe_intermediate_size}")
        if self.vocab_size:
            parts.append(f"vocab {self.vocab_size}")
        chosen = [self.layer_policy.name, self.width_policy.name]
        chosen += [] if self.healing == "none" else [f"{self.healing} healing"]
        return f"{' '.join(parts)} ({', '.join(chosen)})"


def sizes_in(key: str) -> dict[str, int]:
    """Return the sizes in an architecture's `key`, by their configuration names; 0 without one."""
    found = _KEY.search(key)
    if found is None:
        return dict.fromkeys(_KEY.groupindex, 0)
    return {name: int(size or 0) for name, size in found.groupdict().items()}


def check_ratio(name: str, ratio: object) -> None:
    """Check the name and the value of a ratio.

    Raises:
        BadInput: The name is unknown, or the ratio is outside (0, 1].
    """
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
