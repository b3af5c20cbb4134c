"""The sizes of a model, and the policies that choose which of its teacher's units it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from protege.spaces.architecture.layer_policies import Closest
from protege.spaces.architecture.policies import (
    Criterion,
    Ends,
    Findings,
    First,
    Healing,
    LayerPolicy,
    Uniform,
    WidthPolicy,
    check_healing,
    kept_layers,
)
from protege.spaces.architecture.sizes import DEPTHS, RATIOS, Sizes
from protege.spaces.architecture.unit_policies import Magnitude, Rotation, Surgeon
from protege.spaces.arguments import checks_arguments
from protege.spaces.families.family import family_of

WITH_DATA: Mapping[str, Any] = {
    "layer_policy": Closest(),
    "width_policy": Surgeon(),
    "healing": "sequential",
}
"""Defaults with data, the best of ``python -m studies.benchmarks.start``."""

WITHOUT_DATA: Mapping[str, Any] = {
    "layer_policy": Ends(),
    "width_policy": Magnitude(),
    "healing": "none",
}
"""Defaults without data: evenly spaced layers with both ends, units of the largest weights."""


def default_recipe(*, has_data: bool) -> Mapping[str, Any]:
    """Return the default policies and healing by the fields of an `Architecture`."""
    return WITH_DATA if has_data else WITHOUT_DATA


@dataclass(frozen=True)
class Default:
    """The best known policy, chosen when the student is built (`Architecture.resolved`).

    With a calibration it stands for that of `WITH_DATA`, else for that of `WITHOUT_DATA`. Until
    then it keeps the layers of `Ends`.
    """

    name: ClassVar[str] = "default"
    needs_calibration: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        chosen: LayerPolicy = default_recipe(has_data=calibration is not None)["layer_policy"]
        return chosen.resolved(calibration)

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        return Ends().layers(total, count, stack)

    def criterion(self, unit: str) -> Criterion:
        return Magnitude().criterion(unit)


@dataclass(frozen=True)
class Architecture(Sizes):
    """The sizes of a model, under their Hugging Face configuration names, and its policies.

    Equal architectures give the same student. To that end, a policy that has nothing to cut is
    replaced by the default (see `with_policies`). `Sizes` describes the sizes.

    Attributes:
        layer_policy: Chooses the kept layers.
        width_policy: Chooses the kept channels, heads and neurons.
        healing: How the cut student is repaired; see `Healer`. ``default`` is chosen when the
            student is built (see `Default`).
    """

    layer_policy: LayerPolicy = Uniform()
    width_policy: WidthPolicy = First()
    healing: Healing | Literal["default"] = "none"

    def key(self) -> str:
        """Return the student's identity in studies, caches and file names."""
        healing = "" if self.healing == "none" else f"-{self.healing}"
        return f"{self.text_key()}-{self.layer_policy.name}-{self.width_policy.name}{healing}"

    def fields(self) -> dict[str, Any]:
        """Return all fields as JSON values, the policies by name."""
        policies = {"layer_policy": self.layer_policy.name, "width_policy": self.width_policy.name}
        chosen = {**policies, "healing": self.healing}
        # a student of another family may have no layers
        sizes = {"num_hidden_layers": self.num_hidden_layers, **self.sizes()}
        return {"model_type": self.model_type, **sizes, **chosen}

    @checks_arguments
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
        layer_policy: LayerPolicy | None = None,
        width_policy: WidthPolicy | None = None,
        healing: Healing | None = None,
    ) -> "Architecture":
        """Scale this architecture by ratios, rounded to sizes that the family accepts.

        Policies that are not named are those of a `SearchSpace`, chosen when the student is built:
        with a calibration ``Closest()``, ``Surgeon()`` and sequential healing, which are the best
        known; without one ``Ends()``, ``Magnitude()`` and no healing, the best that need no data.

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
        if healing is not None:
            check_healing(healing)
        sizes: Any = self.scaled_sizes(ratios, multiple_of)
        student = replace(self, **sizes)
        return self.with_policies(
            student, layer_policy or Default(), width_policy or Default(), healing or "default"
        )

    def with_policies(
        self,
        student: "Architecture",
        layer_policy: LayerPolicy,
        width_policy: WidthPolicy,
        healing: Healing | Literal["default"] = "none",
    ) -> "Architecture":
        """Return the student with these policies; policies with nothing to cut get the default."""
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
        """Return the layers of this teacher that a student keeps in each stack."""
        return tuple(
            kept_layers(policy, getattr(self, size), getattr(student, size), stack)
            for stack, size in family_of(self.model_type).depths.items()
        )

    def resolved(self, calibration: Findings | None) -> "Architecture":
        """Return this architecture with its layer policy resolved to the kept layers.

        Default policies become those of the recipe with or without data.

        Raises:
            BadInput: The calibration lacks what the policy needs.
        """
        usual = default_recipe(has_data=calibration is not None)
        by_default = isinstance(self.width_policy, Default)
        return replace(
            self,
            layer_policy=self.layer_policy.resolved(calibration),
            width_policy=usual["width_policy"] if by_default else self.width_policy,
            healing=usual["healing"] if self.healing == "default" else self.healing,
        )

    def rotation(self, teacher: "Architecture") -> Rotation | None:
        """Return the rotation of the stream, or None if it keeps channels of the teacher."""
        policy, narrower = self.width_policy, self.hidden_size < teacher.hidden_size
        return policy if isinstance(policy, Rotation) and narrower else None

    @property
    def looks_at_data(self) -> bool:
        """Whether a calibration on data changes the student."""
        resolved = self.layer_policy.is_resolved
        return self.width_policy.needs_calibration or self.healing != "none" or not resolved

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
