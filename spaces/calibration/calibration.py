"""What one pass over calibration data tells about the teacher's units."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from protege.spaces.architecture.policies import Criterion, HeadsBy
from protege.spaces.calibration.blocks import Room, Shapes, blocks
from protege.spaces.calibration.importance import head_importance, taylor_importance
from protege.spaces.calibration.layers import layer_findings
from protege.spaces.calibration.magnitude import magnitudes
from protege.spaces.calibration.passes import Passes
from protege.spaces.calibration.surgeon import removal_orders
from protege.spaces.errors import BadInput
from protege.spaces.models.activations import shapes
from protege.spaces.models.batches import Batch
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.layout import Layout
from protege.spaces.models.placement import weights
from protege.spaces.residual.states import Streams

FEW = 16_384
"""Real tokens that slopes, heads by other criteria and layers are measured on: whole batches."""


@dataclass(frozen=True)
class Calibration:
    """Importance of the teacher's units by how active they are (Minitron, arXiv 2407.14679).

    With S sequences of a site's output ``x``, the activity of unit j is
    ``sqrt(sum_s (mean_t |x[s, t, j]|)**2)``, the mean taken over real tokens only, never padding.
    Of an expert it is the norm of what it adds to the token, nothing where the token is sent
    elsewhere; of a token of the vocabulary, how often it occurs.

    Attributes:
        importance: By name: ``hidden``, ``(hidden_size,)``, summed over the norms' outputs;
            ``vocab``, ``(vocab_size,)``; for every stack ``decoder.heads``, ``(layers, heads)``,
            at the input of the attention's output projection, the norm taken over the head's
            channels; ``decoder.ffn``, ``(layers, ffn)``, at the input of the feed-forward's last
            projection; ``decoder.experts`` and ``decoder.expert_ffn``, ``(layers, experts, ffn)``.
            By another criterion than activity the name ends with it: ``decoder.heads.gradient``,
            ``decoder.ffn.taylor``, ``hidden.taylor``, ``decoder.ffn.surgeon``.
            ``decoder.heads.wanda``, ``decoder.cross_heads.wanda`` and ``decoder.ffn.wanda`` are how
            much of its projection's output a unit carries: ``sqrt(mean_t x[t, j]**2)`` times the
            norm of its column there (Wanda, arXiv 2306.11695), over a head's channels the root of
            the sum of squares. ``hidden.energy``, ``(norms, hidden_size)``, is the mean square of
            each channel at the output of every norm of the residual stream, zero at one that no
            token passes.
            With second moments, means over real tokens of the same inputs, and of the norms'
            outputs: ``decoder.ffn.mean``, ``(layers, ffn)``, and ``decoder.ffn.gram``,
            ``(layers, ffn, ffn)``, not centred; ``decoder.heads.gram`` and
            ``decoder.cross_heads.gram`` over channels; ``hidden.gram``, ``(norms, hidden_size,
            hidden_size)``; ``tokens``, how many they are of. Where they are too large for memory
            they are collected over several passes and memory-mapped; where they are too large for
            the disk there is no ``gram`` (see `Blocks`), and ``wanda`` is in place of ``surgeon``.
            With layers, ``decoder.influence``, ``decoder.angles`` and ``decoder.ladder``: what
            `layer_geometry` and `greedy_ladder` found.
        streams: What students are healed by, and rotated; see `Streams`.
    """

    importance: Mapping[str, Tensor]
    streams: Streams | None = None

    @classmethod
    def of(  # noqa: PLR0913 - one keyword for each thing to measure
        cls,
        teacher: LaidOutModel,
        batches: Iterable[Batch],
        heads_by: Collection[HeadsBy] = (),
        announce: Callable[[str], None] = lambda _: None,
        criteria: Collection[Criterion] = (),
        *,
        grams: bool | Collection[str] = False,
        layers: Collection[str] = (),
        depths: Mapping[str, int] = MappingProxyType({}),
        room: Room | None = None,
    ) -> "Calibration":
        """Measure a teacher on batches of its own inputs.

        Args:
            teacher: The teacher.
            batches: What its forward takes: ``input_ids`` and ``attention_mask``, ``pixel_values``,
                ``input_features``, and ``decoder_input_ids`` where there is a decoder.
            heads_by: The criteria to rank attention heads by; see `head_importance`.
            announce: Told how far the measurement is.
            criteria: What else to rank units by: ``taylor`` takes a backward pass, and measures
                heads by ``gradient`` too; see `taylor_importance`. ``surgeon`` is worked out of
                second moments; see `removal_orders`. All others come by themselves.
            grams: Whether to collect second moments; or the axes to collect them of, such as
                ``ffn``.
            layers: The layer policies to measure layers for: ``influence``, ``contiguous``,
                ``greedy``; see `layer_findings`.
            depths: By stack, the fewest layers that a student has: ``greedy`` measures no further.
            room: Memory and disk for second moments; what this machine has if not given.
        """
        by_slope = "taylor" in criteria
        known = {"activation", "wanda", *(["gradient"] if by_slope else [])}
        others = [criterion for criterion in heads_by if criterion not in known]
        every = ("hidden", "heads", "cross_heads", "ffn") if grams is True else ()
        asked = {*(every if isinstance(grams, bool) else grams)} | (
            {"ffn"} if "surgeon" in criteria else set()
        )
        room = room or Room.here()
        plan = blocks(wanted(teacher, asked), room)
        # what takes more than one plain pass is measured on the first of them alone
        passes = Passes(teacher, batches, len(plan.passes), announce)
        few = FEW if others or by_slope or layers else 0
        found = cls({**cls.flat(teacher.layout).importance, **passes.all_of(plan, room, few)})
        if not asked:
            found = cls({n: t for n, t in found.importance.items() if not _is_of_moments(n)})
        if by_slope:
            found = cls({**found.importance, **taylor_importance(teacher, passes.few, announce)})
        if "surgeon" in criteria:
            found = cls({**found.importance, **_orders(teacher, found.importance, announce)})
        for criterion in others:
            found = found.with_heads(teacher, passes.few, criterion, announce)
        findings = layer_findings(teacher, passes.few, layers, announce, depths)
        return cls({**found.importance, **findings})

    def with_heads(
        self,
        teacher: LaidOutModel,
        batches: Iterable[Batch],
        criterion: HeadsBy,
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """The same with heads measured by one more criterion, on batches of their own."""
        found = head_importance(teacher, batches, criterion, announce)
        named = {f"{site}.{criterion}": values for site, values in found.items()}
        return replace(self, importance={**self.importance, **named})

    def with_streams(self, teacher: LaidOutModel, batch: Batch) -> "Calibration":
        """The same with what runs through the teacher's residual stream on one batch."""
        return replace(self, streams=Streams.of(teacher, batch))

    @classmethod
    def of_weights(cls, teacher: LaidOutModel) -> "Calibration":
        """The importance of units by their weights alone, under the names of their activity.

        See `magnitudes`; all tokens of the vocabulary are equal.
        """
        found = magnitudes(teacher.layout, weights(teacher.model))
        return cls({**cls.flat(teacher.layout).importance, **found})

    def counting(self, ids: Tensor) -> "Calibration":
        """The same with each token as important as it is frequent among these ids."""
        counts = ids.long().bincount(minlength=len(self.vocab))
        return replace(self, importance={**self.importance, "vocab": counts.float()})

    @classmethod
    def flat(cls, layout: Layout) -> "Calibration":
        """Every unit as important as any other: what is known before a pass."""
        own = layout.architecture
        found = {"hidden": torch.ones(own.hidden_size), "vocab": torch.ones(own.vocab_size)}
        for (stack, _), units in layout.sites.items():
            layers = layout.depths[stack]
            for unit in units - {"kv_heads"}:
                shape = [layers, own.units(unit)]
                if unit == "expert_ffn":
                    shape.insert(1, own.num_experts)
                found[f"{stack}.{unit}"] = torch.ones(shape)
        return cls(found)

    def tensors(self) -> dict[str, Tensor]:
        """The importance by name, as a cache stores it."""
        return dict(self.importance)

    @property
    def stand_ins(self) -> list[str]:
        """The sites that had no room for second moments, whose units other ranks stand in for."""
        found = self.importance
        return [
            name.removesuffix(".surgeon")
            for name, ranks in found.items()
            if name.endswith(".surgeon")
            and torch.equal(ranks, found[f"{name.removesuffix('surgeon')}wanda"])
        ]

    def residual(self, criterion: Criterion = "activation") -> Tensor:
        """Importance of the channels of the residual stream, ``(hidden_size,)``."""
        return self._entry("hidden", criterion)

    @property
    def vocab(self) -> Tensor:
        """How often each token occurs."""
        return self.importance["vocab"]

    def units(self, unit: str, stack: str, criterion: Criterion = "activation") -> Tensor:
        """Importance of the units of one axis in every layer of a stack."""
        return self._entry(f"{stack}.{unit}", criterion)

    def _entry(self, name: str, criterion: Criterion) -> Tensor:
        """A unit's importance by a criterion.

        Raises:
            BadInput: Nothing at all was measured by that criterion.
        """
        if criterion in {"activation", "magnitude"}:  # what the calibration is of
            return self.importance[name]
        if criterion == "position":
            return torch.ones_like(self.importance[name])
        if not any(known.endswith(f".{criterion}") for known in self.importance):
            raise BadInput(
                f"a calibration without {criterion}, which the width policy ranks units by: pass "
                f'Calibration.of heads_by=["{criterion}"] for heads, else criteria=["{criterion}"]'
            )
        # a head that no layer of a stack has, such as a pooler's, is ranked by what there is
        return self.importance.get(f"{name}.{criterion}", self.importance[name])


def wanted(teacher: LaidOutModel, axes: Collection[str]) -> Shapes:
    """Return the sites whose units are of these axes: layers and channels, by name."""
    found = shapes(teacher).items()
    return {name: shape for name, shape in found if name.rpartition(".")[2] in axes}


def _is_of_moments(name: str) -> bool:
    return name == "tokens" or name.endswith(".mean")


def _orders(
    teacher: LaidOutModel, found: Mapping[str, Tensor], announce: Callable[[str], None]
) -> dict[str, Tensor]:
    """Return the ranks of neurons; ``wanda`` where there was no room for second moments."""
    stand_ins = {
        f"{name.removesuffix('wanda')}surgeon": values
        for name, values in found.items()
        if name.endswith(".ffn.wanda")
    }
    return stand_ins | removal_orders(teacher, found, announce)
