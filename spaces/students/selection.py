"""Which units of the teacher a student keeps, decided once and carried in its manifest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.unit_policies import rotation_of
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.errors import BadInput
from protege.spaces.models.layout import Layout, Slot
from protege.spaces.students.config import layers_of

Units = tuple[int, ...]


@dataclass(frozen=True)
class KeptLayer:
    """One layer of the student.

    Attributes:
        number: Of the teacher's layer that it comes from.
        units: Indices of the teacher's units, by axis: ``heads``, ``kv_heads``, ``cross_heads``,
            ``ffn``, ``experts``; of ``expert_ffn`` one tuple for each kept expert.
    """

    number: int
    units: Mapping[str, Units | tuple[Units, ...]]


@dataclass(frozen=True)
class Kept:
    """Indices into the teacher, ascending.

    Attributes:
        hidden: Channels of the residual stream, one choice for the whole model.
        stacks: The layers of each stack.
        vocab: Tokens; none where all of them stay.
        turned: Whether the stream is turned: its channels are not the teacher's, and only their
            number counts (see `Rotation`).
    """

    hidden: Units
    stacks: Mapping[str, tuple[KeptLayer, ...]]
    vocab: Units | None = None
    turned: bool = False

    def layers(self, stack: str) -> Units:
        """The teacher's layers that a stack keeps."""
        return tuple(layer.number for layer in self.stacks.get(stack, ()))

    def units(
        self, unit: str, stack: str, position: int | None
    ) -> Units | tuple[Units, ...] | None:
        """The units kept along one axis, in the student's layer at that position; none for all.

        What stands outside the layers has the units that all of them share.
        """
        if unit in {"hidden", "vocab"}:
            return self.hidden if unit == "hidden" else self.vocab
        return self.stacks[stack][position or 0].units[unit]

    def names(self, slot: Slot) -> Iterator[tuple[str, int | None]]:
        """What the student calls a tensor, with the position of its layer; nothing if it is cut."""
        if slot.layer is None:
            yield slot.name, None
            return
        layers = self.layers(slot.stack)
        if slot.layer in layers:
            position = layers.index(slot.layer)
            single = slot.number_at == (0, 0)
            yield slot.name if single else slot.named(position), position

    def manifest(self) -> dict[str, Any]:
        """The indices as JSON values."""
        stacks = {
            stack: [{"layer": layer.number, **layer.units} for layer in layers]
            for stack, layers in self.stacks.items()
        }
        layers = {stack: self.layers(stack) for stack in self.stacks}
        hidden = "rotated" if self.turned else self.hidden
        return {"layers": layers, "hidden": hidden, "stacks": stacks, "vocab": self.vocab}


def everything(layout: Layout) -> Kept:
    """All units, in their order: the teacher itself."""
    return choose(layout, layout.architecture, None)


def choose(
    layout: Layout,
    student: Architecture,
    calibration: Calibration | None,
    vocab: Units | None = None,
) -> Kept:
    """What the student's policies keep of its teacher.

    Heads are chosen within their key-value groups, so that every kept group keeps as many query
    heads as any other and each head still reads its own keys and values.

    Args:
        layout: What the teacher is made of.
        student: The sizes and policies.
        calibration: The importance of the teacher's units, where a policy asks for it: on data, or
            of their weights alone.
        vocab: The tokens to keep, if not all.

    Raises:
        BadInput: A policy needs a calibration and none is given, or one without what the policy
            looks at.
        Infeasible: The layer policy has no choice of that depth.
    """
    student, policy = student.resolved(calibration), student.width_policy
    if (policy.needs_calibration or policy.needs_weights) and calibration is None:
        made = "of_weights(teacher)" if policy.needs_weights else "of(teacher, batches)"
        raise BadInput(
            f"width policy {policy.name!r} needs a calibration: "
            f"pass calibration=Calibration.{made}, or use First()"
        )
    choice = _Choice(layout, student, calibration or Calibration.flat(layout))
    turned = rotation_of(student, layout.architecture) is not None
    narrower = student.hidden_size < layout.architecture.hidden_size
    by = policy.criterion("hidden") if narrower and not turned else "position"
    channels = choice.importance.residual(by)
    return Kept(
        hidden=strongest(channels, student.hidden_size),
        turned=turned,
        stacks={stack: choice.layers(stack) for stack in layout.depths},
        vocab=vocab,
    )


@dataclass(frozen=True)
class _Choice:
    layout: Layout
    student: Architecture
    importance: Calibration

    def layers(self, stack: str) -> tuple[KeptLayer, ...]:
        numbers = layers_of(self.layout, self.student, stack)
        return tuple(KeptLayer(n, self._units(stack, n, numbers)) for n in numbers)

    def _units(self, stack: str, layer: int, kept: Units) -> dict[str, Units | tuple[Units, ...]]:
        """The units kept in one layer, by axis."""
        student = self.student
        sites, found = self.layout.sites[stack, layer], dict[str, Any]()
        if "heads" in sites:
            found |= self._heads(self._of("heads", stack, layer, kept), grouped="kv_heads" in sites)
        for unit in ("cross_heads", "ffn", "experts"):
            if unit in sites:
                found[unit] = strongest(self._of(unit, stack, layer, kept), student.units(unit))
        if "expert_ffn" in sites:
            importance = self._of("expert_ffn", stack, layer, kept)
            count = student.units("expert_ffn")
            found["expert_ffn"] = tuple(strongest(importance[e], count) for e in found["experts"])
        return found

    def _of(self, unit: str, stack: str, layer: int, kept: Units) -> Tensor:
        """Importance of a layer's units; where all layers keep the same ones, in all of them.

        Where all units stay there is nothing to rank: then a calibration need not know them.
        """
        criterion = self.student.width_policy.criterion(unit)
        if unit in self.student.whole_axes(self.layout.architecture):
            criterion = "position"
        by_layer = self.importance.units(unit, stack, criterion)
        if unit not in self.layout.family.shared:
            return by_layer[layer]
        over_all: Tensor = torch.linalg.vector_norm(by_layer[list(kept)], dim=0)
        return over_all

    def _heads(self, importance: Tensor, *, grouped: bool) -> dict[str, Units]:
        """Query and key-value heads kept in one layer, given the importance of each query head."""
        student, own = self.student, self.layout.architecture
        if not grouped:
            return {"heads": strongest(importance, student.num_attention_heads)}
        by_group = importance.reshape(own.num_key_value_heads, -1)
        groups = strongest(by_group.norm(dim=1), student.num_key_value_heads)
        size = student.num_attention_heads // student.num_key_value_heads
        query = (
            group * by_group.shape[1] + head
            for group in groups
            for head in strongest(by_group[group], size)
        )
        return {"heads": tuple(query), "kv_heads": groups}


def strongest(importance: Tensor, count: int) -> Units:
    """Ascending indices of the most important units; the first of those that are equal."""
    if count >= len(importance):
        return tuple(range(len(importance)))
    found = importance.argsort(descending=True, stable=True)[:count]
    return tuple(found.sort().values.tolist())
