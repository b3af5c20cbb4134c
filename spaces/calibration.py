"""What one pass over calibration data tells about the teacher's units."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protege.spaces.batches import Batch, given, headless, lengths
from protege.spaces.errors import BadInput
from protege.spaces.importance import head_importance, taylor_importance
from protege.spaces.layers import layer_findings
from protege.spaces.layout import Layout
from protege.spaces.listening import Sites
from protege.spaces.magnitude import magnitudes
from protege.spaces.policies import Criterion, HeadsBy
from protege.spaces.sharding import weights
from protege.spaces.streams import Streams
from protege.spaces.surgeon import removal_orders

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher


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
            hidden_size)``; ``tokens``, how many they are of. What would take more than
            `GRAM_BYTES` has no ``gram``.
            With layers, ``decoder.influence``, ``decoder.angles`` and ``decoder.ladder``: what
            `layer_geometry` and `greedy_ladder` found.
        streams: What students are healed by, and rotated; see `Streams`.
    """

    importance: Mapping[str, Tensor]
    streams: Streams | None = None

    @classmethod
    def of(  # noqa: PLR0913 - one keyword for each thing to measure
        cls,
        teacher: "Teacher",
        batches: Iterable[Batch],
        heads_by: Collection[HeadsBy] = (),
        announce: Callable[[str], None] = lambda _: None,
        criteria: Collection[Criterion] = (),
        *,
        grams: bool = False,
        layers: Collection[str] = (),
    ) -> "Calibration":
        """The calibration of a teacher on batches of its own inputs.

        Args:
            teacher: The teacher.
            batches: What its forward takes: ``input_ids`` and ``attention_mask``, ``pixel_values``,
                ``input_features``, and ``decoder_input_ids`` where there is a decoder.
            heads_by: The criteria to rank attention heads by; see `head_importance`.
            announce: Told how far those are.
            criteria: What else to rank units by: ``taylor`` takes a backward pass, and measures
                heads by ``gradient`` too; see `taylor_importance`. ``surgeon`` is worked out of
                second moments; see `removal_orders`. All others come by themselves.
            grams: Whether to collect second moments.
            layers: The layer policies to measure layers for: ``influence``, ``contiguous``,
                ``greedy``; see `layer_findings`.
        """
        by_slope = "taylor" in criteria
        known = {"activation", "wanda", *(["gradient"] if by_slope else [])}
        others = [criterion for criterion in heads_by if criterion not in known]
        sites = Sites(teacher, grams=grams or "surgeon" in criteria)
        tokens = torch.zeros(teacher.architecture.vocab_size)
        # what takes more than one plain pass is measured on the first of them alone
        few, left = list[Batch](), FEW if others or by_slope or layers else 0
        model = headless(teacher.model)
        with sites:
            for batch in batches:
                sites.batch = batch
                tokens += _occurrences(batch, len(tokens))
                with torch.inference_mode():
                    model(**given(batch))
                if left > 0:
                    few.append(batch)
                    left -= int(lengths(batch).sum())
        found = cls({**cls.flat(teacher.layout).importance, **sites.found(), "vocab": tokens})
        if by_slope:
            found = cls({**found.importance, **taylor_importance(teacher, few, announce)})
        if "surgeon" in criteria:
            found = cls({**found.importance, **removal_orders(teacher, found.importance, announce)})
        for criterion in others:
            found = found.with_heads(teacher, few, criterion, announce)
        return cls({**found.importance, **layer_findings(teacher, few, layers, announce)})

    def with_heads(
        self,
        teacher: "Teacher",
        batches: Iterable[Batch],
        criterion: HeadsBy,
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """The same with heads measured by one more criterion, on batches of their own."""
        found = head_importance(teacher, batches, criterion, announce)
        named = {f"{site}.{criterion}": values for site, values in found.items()}
        return replace(self, importance={**self.importance, **named})

    def with_streams(self, teacher: "Teacher", batch: Batch) -> "Calibration":
        """The same with what runs through the teacher's residual stream on one batch."""
        return replace(self, streams=Streams.of(teacher, batch))

    @classmethod
    def of_weights(cls, teacher: "Teacher") -> "Calibration":
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


def _occurrences(batch: Batch, vocabulary: int) -> Tensor:
    """How often each token stands in the batch, padding left out."""
    counts = torch.zeros(vocabulary)
    for prefix in ("", "decoder_"):
        ids = batch.get(f"{prefix}input_ids")
        if ids is not None:
            mask = batch.get(f"{prefix}attention_mask", torch.ones_like(ids))
            counts += torch.bincount(ids[mask == 1], minlength=vocabulary)
    return counts
