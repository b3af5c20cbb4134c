"""The sizes of one model, and the policies that say which of its teacher's units it keeps."""

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import lcm
from typing import Any

from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.families import family_of
from protege.spaces.policies import First, LayerPolicy, Uniform, WidthPolicy


@dataclass(frozen=True)
class Architecture:
    """One model's sizes, under the names that Hugging Face configurations use.

    Two students of equal architecture are the same student: where nothing is cut, the policy that
    would have chosen is the default one (see `scaled`).

    Attributes:
        model_type: The ``model_type`` of the configuration, which names the family.
        num_hidden_layers: Depth.
        hidden_size: Width of the residual stream.
        num_attention_heads: Query heads of each layer.
        num_key_value_heads: Key and value heads; each serves a whole group of query heads.
        head_dim: Channels of one head; always the teacher's.
        intermediate_size: Width of each feed-forward network.
        vocab_size: Rows of the embedding.
        layer_policy: Which layers are kept.
        width_policy: Which channels, heads and neurons are kept.
    """

    model_type: str
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    layer_policy: LayerPolicy = Uniform()
    width_policy: WidthPolicy = First()

    def key(self) -> str:
        """The identity of the student: in studies, caches and file names."""
        return (
            f"{self.model_type}-l{self.num_hidden_layers}-d{self.hidden_size}"
            f"-h{self.num_attention_heads}-kv{self.num_key_value_heads}x{self.head_dim}"
            f"-f{self.intermediate_size}-v{self.vocab_size}"
            f"-{self.layer_policy.name}-{self.width_policy.name}"
        )

    def sizes(self) -> dict[str, int]:
        """The integers by their configuration names."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}

    def fields(self) -> dict[str, Any]:
        """All fields as JSON values, the policies by name."""
        policies = {"layer_policy": self.layer_policy.name, "width_policy": self.width_policy.name}
        return {"model_type": self.model_type, **self.sizes(), **policies}

    def scaled(  # noqa: PLR0913 - one keyword a knob
        self,
        *,
        layers: float = 1.0,
        hidden: float = 1.0,
        heads: float = 1.0,
        kv_heads: float = 1.0,
        intermediate: float = 1.0,
        multiple_of: int = 8,
        layer_policy: LayerPolicy = Uniform(),
        width_policy: WidthPolicy = First(),
    ) -> "Architecture":
        """The student at these ratios of this architecture, snapped to sizes the family accepts.

        Depth is rounded to whole layers. Key-value heads are dropped in whole groups, query heads
        evenly from every group. Widths are the nearest multiple of ``multiple_of`` that the
        configuration class accepts; a width at ratio 1.0 is left as it is, multiple or not. A
        family without ``head_dim`` in its configuration (BERT) has ``hidden_size = heads *
        head_dim``: its heads follow the hidden size.

        Raises:
            BadInput: A ratio is outside (0, 1].
            Infeasible: No model of the family has such sizes.
        """
        names = ("layers", "hidden", "heads", "kv_heads", "intermediate")
        for name, ratio in zip(names, (layers, hidden, heads, kv_heads, intermediate), strict=True):
            check_ratio(name, ratio)
        depth = max(1, nearest(self.num_hidden_layers, layers))
        hidden_size, query_heads, kv = self._attention(hidden, heads, kv_heads, multiple_of)
        ffn = _snap(self.intermediate_size, intermediate, multiple_of)
        student = replace(
            self,
            num_hidden_layers=depth,
            hidden_size=hidden_size,
            num_attention_heads=query_heads,
            num_key_value_heads=kv,
            intermediate_size=ffn,
        )
        return self.with_policies(student, layer_policy, width_policy)

    def with_policies(
        self, student: "Architecture", layer_policy: LayerPolicy, width_policy: WidthPolicy
    ) -> "Architecture":
        """The student under these policies, each at its default where it has nothing to choose.

        Raises:
            Infeasible: The layer policy has no choice of that many layers.
        """
        layer_policy.layers(self.num_hidden_layers, student.num_hidden_layers)
        deep = student.num_hidden_layers == self.num_hidden_layers
        wide = replace(student, num_hidden_layers=self.num_hidden_layers).sizes() == self.sizes()
        return replace(
            student,
            layer_policy=self.layer_policy if deep else layer_policy,
            width_policy=self.width_policy if wide else width_policy,
        )

    def _attention(
        self, hidden: float, heads: float, kv_heads: float, multiple_of: int
    ) -> tuple[int, int, int]:
        """Hidden size, query heads and key-value heads that fit together."""
        family = family_of(self.model_type)
        if family.heads_follow_hidden:
            if not heads == kv_heads == 1.0:
                raise Infeasible(
                    f"{self.model_type} has no head_dim of its own: its hidden size is heads x "
                    f"{self.head_dim}, so heads follow the hidden size; set hidden, not heads"
                )
            width = _snap(self.hidden_size, hidden, lcm(multiple_of, self.head_dim))
            return width, width // self.head_dim, width // self.head_dim
        kv, query = self._head_counts(heads, kv_heads)
        return self._accepted_width(hidden, query, kv, multiple_of), query, kv

    def _head_counts(self, heads: float, kv_heads: float) -> tuple[int, int]:
        """Key-value heads and query heads: whole groups, every group of one size."""
        group = self.num_attention_heads // self.num_key_value_heads
        # with one query head to a group there is nothing to drop inside it: the groups go
        kv_ratio = min(heads, kv_heads) if group == 1 else kv_heads
        kv = max(1, nearest(self.num_key_value_heads, kv_ratio))
        in_group = min(group, max(1, nearest(self.num_attention_heads, heads / kv)))
        return kv, kv * in_group

    def _accepted_width(self, hidden: float, heads: int, kv: int, multiple_of: int) -> int:
        """The hidden size nearest to the ratio that the configuration class accepts."""
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
        heads = f"{self.num_attention_heads}"
        if self.num_key_value_heads != self.num_attention_heads:
            heads += f"/{self.num_key_value_heads}"
        return (
            f"{self.num_hidden_layers}x{self.hidden_size} heads {heads} "
            f"ffn {self.intermediate_size} ({self.layer_policy.name}, {self.width_policy.name})"
        )


def check_ratio(name: str, ratio: object) -> None:
    """Refuse a ratio that is not in (0, 1].

    Raises:
        BadInput: It is not.
    """
    if not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise BadInput(
            f"{name}={ratio!r}: expected a ratio above 0 and at most 1 (1 = the teacher)"
        )


def nearest(full: int, ratio: float) -> int:
    """The whole number nearest to the ratio of the full size, halves up."""
    # exact arithmetic: 0.1 of 30 is 3, whatever binary floats make of the product
    exact = full * Fraction(ratio).limit_denominator(10_000)
    return int(exact + Fraction(1, 2))


def _snap(full: int, ratio: float, multiple_of: int) -> int:
    """The multiple nearest to the ratio of the full size; the full size itself at ratio 1.0."""
    if ratio == 1.0:
        return full
    return min(full, max(multiple_of, nearest(full, ratio / multiple_of) * multiple_of))
