"""Measure the importance of a teacher's units on calibration data."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from protege.spaces.architecture.architecture import WITH_DATA
from protege.spaces.architecture.layer_policies import Closest
from protege.spaces.architecture.policies import (
    Criterion,
    HeadsBy,
    Healing,
    LayerPolicy,
    WidthPolicy,
    ranking,
)
from protege.spaces.architecture.unit_policies import Rotation
from protege.spaces.calibration.blocks import Room, Shapes, blocks
from protege.spaces.calibration.closest import StudentBuilder, closest_layers
from protege.spaces.calibration.fisher import output_metrics
from protege.spaces.calibration.importance import head_importance, taylor_importance
from protege.spaces.calibration.layers import layer_findings
from protege.spaces.calibration.magnitude import magnitudes
from protege.spaces.calibration.passes import Passes
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.calibration.surgeon import removal_orders
from protege.spaces.models.activations import shapes
from protege.spaces.models.batches import Batch
from protege.spaces.models.layout import LaidOutModel, Layout
from protege.spaces.models.placement import weights
from protege.spaces.residual.states import ResidualStates

FEW = 16_384
"""Real tokens for gradients, head ablations and layer measurements, rounded up to batches."""

DEFAULT_POLICIES = (WITH_DATA["layer_policy"], WITH_DATA["width_policy"])
"""The policies that a calibration is for if none are named."""


@dataclass(frozen=True)
class Calibration:
    """Importance of a teacher's units, by default by activity (Minitron, arXiv 2407.14679).

    With sequences s and tokens t of a site's activations ``x``, the activity of unit j is
    ``sqrt(sum_s (mean_t |x[s, t, j]|)**2)``, the mean over real tokens without padding. For an
    expert ``|x|`` is the norm of what it adds to a token, zero for tokens routed elsewhere.

    Attributes:
        importance: Tensors by name, with ``decoder`` as an example of a stack:

            - ``hidden``, ``(hidden_size,)``: activity summed over the outputs of norms.
            - ``vocab``, ``(vocab_size,)``: how often each token occurs.
            - ``decoder.heads`` and ``decoder.cross_heads``, ``(layers, heads)``: activity at the
              input of the attention's output projection, as the norm over a head's channels.
            - ``decoder.ffn``, ``(layers, ffn)``: activity at the input of the feed-forward's last
              projection.
            - ``decoder.experts``, ``(layers, experts)``, and ``decoder.expert_ffn``, ``(layers,
              experts, ffn)``.
            - Other criteria as suffix: ``decoder.heads.gradient``, ``decoder.ffn.taylor``,
              ``hidden.taylor``, ``decoder.ffn.surgeon``.
            - ``decoder.heads.wanda``, ``decoder.cross_heads.wanda`` and ``decoder.ffn.wanda``: a
              unit's contribution to its projection's output, ``sqrt(mean_t x[t, j]**2)`` times the
              norm of its column (Wanda, arXiv 2306.11695), for a head the norm over its channels.
            - ``hidden.energy``, ``(norms, hidden_size)``: mean square of each channel at the
              output of every norm of the residual stream; zero at norms that no token passes.
            - With second moments, over real tokens at the same inputs and the outputs of norms:
              ``decoder.ffn.mean``, ``(layers, ffn)``, and ``decoder.ffn.gram``, ``(layers, ffn,
              ffn)``, not centred; ``decoder.heads.gram`` and ``decoder.cross_heads.gram`` over
              channels; ``hidden.gram``, ``(norms, hidden_size, hidden_size)``; ``tokens``, their
              number. Moments too large for memory are collected in several passes and
              memory-mapped; those too large for the disk are left out (see `Blocks`), and
              ``wanda`` replaces ``surgeon``.
            - With layer policies, ``decoder.influence``, ``decoder.angles``,
              ``decoder.ladder`` and ``decoder.closest``; see `layer_geometry`, `greedy_ladder`
              and `closest_layers`.
        streams: The teacher's residual states for healing and rotation, or None.
    """

    importance: Mapping[str, Tensor]
    streams: ResidualStates | None = None

    @classmethod
    def of(
        cls,
        teacher: StudentBuilder,
        batches: Iterable[Batch],
        for_: Iterable[LayerPolicy | WidthPolicy] = DEFAULT_POLICIES,
        healing: Healing = "sequential",
        *,
        announce: Callable[[str], None] = lambda _: None,
        room: Room | None = None,
    ) -> "Calibration":
        """Measure a teacher on batches of its own inputs.

        Args:
            teacher: The teacher.
            batches: Inputs of its forward: ``input_ids`` and ``attention_mask``, ``pixel_values``
                or ``input_features``, and ``decoder_input_ids`` for encoder-decoders.
            for_: The policies of the students; by default those of the default recipe.
            healing: How the students are healed. If they are, or if a policy is `Rotation`, the
                teacher's residual states on the first batch are recorded.
            announce: Callback for progress messages.
            room: Memory and disk for second moments; by default those of this machine.

        Raises:
            BadInput: A value is no policy, or the healing method is unknown.
        """
        policies = list(for_)
        plan = CalibrationPlan.of(policies, healing)
        if isinstance(batches, Iterator):
            batches = list(batches)  # an iterator can be read only once
        found = cls.measured(teacher, batches, plan, announce, room)
        if healing != "none" or any(isinstance(policy, Rotation) for policy in policies):
            found = found.with_streams(teacher, next(iter(batches)))
        if Closest.name in plan.layers:
            found = found.with_closest(teacher, batches, announce=announce)
        return found

    @classmethod
    def measured(
        cls,
        teacher: LaidOutModel,
        batches: Iterable[Batch],
        plan: CalibrationPlan | None = None,
        announce: Callable[[str], None] = lambda _: None,
        room: Room | None = None,
    ) -> "Calibration":
        """Measure what a plan names; activity and ``wanda`` alone if it is None. See `of`."""
        plan = plan or CalibrationPlan()
        by_slope = "taylor" in plan.criteria
        known = {"activation", "wanda", *(["gradient"] if by_slope else [])}
        others = [criterion for criterion in plan.heads_by if criterion not in known]
        room = room or Room.here()
        parts = blocks(wanted(teacher, plan.axes), room)
        # criteria that need more than a forward pass use only the first batches
        passes = Passes(teacher, batches, len(parts.passes), announce)
        few = FEW if others or by_slope or plan.layers or "surgeon" in plan.criteria else 0
        found = {**teacher.layout.equal_importance(), **passes.all_of(parts, room, few)}
        if not plan.axes:
            of_moments = [name for name in found if name == "tokens" or name.endswith(".mean")]
            found = {name: found[name] for name in found if name not in of_moments}
        if by_slope:
            found |= taylor_importance(teacher, passes.few, announce)
        if "surgeon" in plan.criteria:
            # sites without second moments are ranked by wanda
            names = [name for name in found if name.endswith(".ffn.wanda")]
            found |= {f"{name.removesuffix('wanda')}surgeon": found[name] for name in names}
            metrics = output_metrics(teacher, passes.few, announce)
            found |= removal_orders(teacher, found, metrics, announce)
        for criterion in others:
            found |= cls({}).with_heads(teacher, passes.few, criterion, announce).importance
        return cls(found | layer_findings(teacher, passes.few, plan.layers, announce, plan.depths))

    def with_heads(
        self,
        teacher: LaidOutModel,
        batches: Iterable[Batch],
        criterion: HeadsBy,
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """Return this calibration with heads measured by one more criterion."""
        found = head_importance(teacher, batches, criterion, announce)
        named = {f"{site}.{criterion}": values for site, values in found.items()}
        return replace(self, importance={**self.importance, **named})

    def with_streams(self, teacher: LaidOutModel, batch: Batch) -> "Calibration":
        """Return this calibration with the teacher's residual states on one batch."""
        return replace(self, streams=ResidualStates.of(teacher, batch))

    def with_closest(
        self,
        teacher: StudentBuilder,
        batches: Iterable[Batch],
        depths: Mapping[str, int] = MappingProxyType({}),
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """Return this calibration with the layers of `Closest`; see `closest_layers`."""
        found = closest_layers(teacher, self, batches, depths, announce)
        return replace(self, importance={**self.importance, **found})

    @classmethod
    def of_weights(cls, teacher: LaidOutModel) -> "Calibration":
        """Return the importance of units by their weights alone, under the names of activity.

        See `magnitudes`. All tokens of the vocabulary are equal.
        """
        found = magnitudes(teacher.layout, weights(teacher.model))
        return cls(teacher.layout.equal_importance() | found)

    def counting(self, ids: Tensor) -> "Calibration":
        """Return this calibration with tokens ranked by their frequency among these ids."""
        counts = ids.long().bincount(minlength=len(self.vocab))
        return replace(self, importance={**self.importance, "vocab": counts.float()})

    @classmethod
    def flat(cls, layout: Layout) -> "Calibration":
        """Return a calibration in which all units are equally important."""
        return cls(layout.equal_importance())

    def tensors(self) -> dict[str, Tensor]:
        """Return the importance by name, for the cache."""
        return dict(self.importance)

    @property
    def stand_ins(self) -> list[str]:
        """The sites without room for second moments, where ``wanda`` replaces ``surgeon``."""
        found = self.importance
        return [
            name.removesuffix(".surgeon")
            for name, ranks in found.items()
            if name.endswith(".surgeon")
            and torch.equal(ranks, found[f"{name.removesuffix('surgeon')}wanda"])
        ]

    def residual(self, criterion: Criterion = "activation") -> Tensor:
        """Return the importance of the residual stream's channels, ``(hidden_size,)``."""
        return ranking(self.importance, "hidden", criterion)

    @property
    def vocab(self) -> Tensor:
        """How often each token occurs."""
        return self.importance["vocab"]

    def units(self, unit: str, stack: str, criterion: Criterion = "activation") -> Tensor:
        """Return the importance of an axis's units in every layer of a stack."""
        return ranking(self.importance, f"{stack}.{unit}", criterion)


def wanted(teacher: LaidOutModel, axes: Collection[str]) -> Shapes:
    """Return layers and channels of the sites whose units belong to these axes, by name."""
    found = shapes(teacher).items()
    return {name: shape for name, shape in found if name.rpartition(".")[2] in axes}
