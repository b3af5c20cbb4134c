"""What a calibration measures, by the policies that need it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from protege.spaces.architecture.layer_policies import FINDINGS
from protege.spaces.architecture.policies import (
    Criterion,
    HeadsBy,
    Healing,
    LayerPolicy,
    WidthPolicy,
    check_healing,
)
from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.errors import BadInput

HEALED = ("hidden", "heads", "cross_heads", "ffn")
"""Axes whose second moments healing uses."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What a calibration measures beside activity and ``wanda``, which are always measured.

    Attributes:
        heads_by: Criteria for attention heads; see `head_importance`.
        criteria: Criteria for units: ``taylor`` takes a backward pass and measures heads by
            ``gradient`` too (see `taylor_importance`); ``surgeon`` is computed from second moments
            (see `removal_orders`).
        moments: Axes of which second moments are collected.
        layers: Names of the layer policies to measure layers for; see `layer_findings`.
        depths: For each stack, the minimum depth of students, where ``greedy`` stops.
    """

    heads_by: Collection[HeadsBy] = ()
    criteria: Collection[Criterion] = ()
    moments: Collection[str] = ()
    layers: Collection[str] = ()
    depths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, policies: Iterable[LayerPolicy | WidthPolicy], healing: Healing
    ) -> "CalibrationPlan":
        """Plan what these policies and this healing need.

        Raises:
            BadInput: A value is no policy, or the healing method is unknown.
        """
        check_healing(healing)
        heads: dict[HeadsBy, None] = {}
        criteria: dict[Criterion, None] = {}
        layers = []
        for policy in policies:
            if isinstance(policy, str) or not hasattr(policy, "needs_calibration"):
                raise BadInput(f"for_ with {policy!r}: expected policies such as Surgeon()")
            if policy.name in FINDINGS:
                layers.append(policy.name)
            elif policy.needs_calibration and hasattr(policy, "criterion"):
                criteria |= dict.fromkeys(policy.criterion(axis) for axis in SIZE_OF)
                heads[policy.criterion("heads")] = None  # type: ignore[index]
        moments = () if healing == "none" else HEALED
        return cls([*heads], [*criteria], moments, layers)

    @property
    def axes(self) -> set[str]:
        """The axes of which second moments are collected, for healing or for ``surgeon``."""
        return {*self.moments, *(["ffn"] if "surgeon" in self.criteria else [])}
