"""Select the units of the teacher that a student keeps, and a policy that keeps given layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import Findings, FixedPolicy, ranking
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.families.family import family_of
from protege.spaces.models.layout import Layout
from protege.spaces.models.tensors import TensorSpec

Units = tuple[int, ...]


@dataclass(frozen=True)
class LayerSelection:
    """One layer of the student.

    Attributes:
        number: The teacher's layer that it comes from.
        units: Indices of the teacher's units by axis; for ``expert_ffn`` one tuple per kept expert.
    """

    number: int
    units: Mapping[str, Units | tuple[Units, ...]]


@dataclass(frozen=True)
class Selection:
    """The teacher's units that a student keeps, as ascending indices.

    Attributes:
        hidden: Channels of the residual stream, the same for the whole model.
        stacks: The layers of each stack.
        vocab: Tokens, or None if all stay.
        turned: Whether the stream is rotated; then only the number of channels counts (see
            `Rotation`).
    """

    hidden: Units
    stacks: Mapping[str, tuple[LayerSelection, ...]]
    vocab: Units | None = None
    turned: bool = False

    def layers(self, stack: str) -> Units:
        """Return the teacher's layers that a stack keeps."""
        return tuple(layer.number for layer in self.stacks.get(stack, ()))

    def units(
        self, unit: str, stack: str, position: int | None
    ) -> Units | tuple[Units, ...] | None:
        """Return the units kept along an axis in the student's layer at a position; None for all.

        A tensor outside the layers (position None) has the units that all layers share.
        """
        if unit in {"hidden", "vocab"}:
            return self.hidden if unit == "hidden" else self.vocab
        return self.stacks[stack][position or 0].units[unit]

    def names(self, slot: TensorSpec) -> Iterator[tuple[str, int | None]]:
        """Yield the student's name of a tensor and its layer's position; nothing if it is cut."""
        if slot.layer is None:
            yield slot.name, None
            return
        layers = self.layers(slot.stack)
        if slot.layer in layers:
            position = layers.index(slot.layer)
            single = slot.number_at == (0, 0)
            yield slot.name if single else slot.named(position), position

    def manifest(self) -> dict[str, Any]:
        """Return the indices as JSON values."""
        stacks = {
            stack: [{"layer": layer.number, **layer.units} for layer in layers]
            for stack, layers in self.stacks.items()
        }
        layers = {stack: self.layers(stack) for stack in self.stacks}
        hidden = "rotated" if self.turned else self.hidden
        return {"layers": layers, "hidden": hidden, "stacks": stacks, "vocab": self.vocab}

    @classmethod
    def of_manifest(cls, entries: Mapping[str, Any]) -> "Selection":
        """Return the selection that `manifest` described, after a JSON round trip.

        The channels of a rotated stream are not in it.
        """
        turned, vocab = entries["hidden"] == "rotated", entries["vocab"]
        return cls(
            hidden=() if turned else tuple(entries["hidden"]),
            stacks={
                stack: tuple(_layer_of(layer) for layer in layers)
                for stack, layers in entries["stacks"].items()
            },
            vocab=None if vocab is None else tuple(vocab),
            turned=turned,
        )


def _layer_of(entry: Mapping[str, Any]) -> LayerSelection:
    units = {name: _tuples(one) for name, one in entry.items() if name != "layer"}
    return LayerSelection(entry["layer"], units)


def _tuples(units: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list) else one for one in units)


def everything(layout: Layout) -> Selection:
    """Return the selection of all units: the teacher itself."""
    return choose(layout, layout.architecture, None)


def choose(
    layout: Layout, student: Architecture, calibration: Findings | None, vocab: Units | None = None
) -> Selection:
    """Select the units that the student's policies keep.

    Heads are chosen within their key-value groups: every kept group keeps the same number of query
    heads, and each head still reads its own keys and values. Only some policies need a calibration.
    Without ``vocab`` all tokens stay.

    Raises:
        BadInput: The calibration is missing or lacks what a policy needs.
        Infeasible: The layer policy cannot keep that many layers.
    """
    student, policy = student.resolved(calibration), student.width_policy
    if (policy.needs_calibration or policy.needs_weights) and calibration is None:
        made = "of_weights(teacher)" if policy.needs_weights else "of(teacher, batches)"
        raise BadInput(
            f"width policy {policy.name!r} needs a calibration: "
            f"pass calibration=Calibration.{made}, or use First()"
        )
    found = layout.equal_importance() if calibration is None else calibration.importance
    choice = _Selector(layout, student, found)
    turned = student.rotation(layout.architecture) is not None
    narrower = student.hidden_size < layout.architecture.hidden_size
    by = policy.criterion("hidden") if narrower and not turned else "position"
    return Selection(
        hidden=strongest(ranking(found, "hidden", by), student.hidden_size),
        turned=turned,
        stacks={stack: choice.layers(stack) for stack in layout.depths},
        vocab=vocab,
    )


@dataclass(frozen=True)
class _Selector:
    layout: Layout
    student: Architecture
    importance: Mapping[str, Tensor]

    def layers(self, stack: str) -> tuple[LayerSelection, ...]:
        numbers = self.layout.layers_of(self.student, stack)
        return tuple(LayerSelection(n, self._units(stack, n, numbers)) for n in numbers)

    def _units(self, stack: str, layer: int, kept: Units) -> dict[str, Units | tuple[Units, ...]]:
        """Select the units kept in one layer, by axis."""
        student = self.student
        sites, found = self.layout.sites[stack, layer], dict[str, Any]()
        if "heads" in sites:
            found |= self._heads(
                self._ranks("heads", stack, layer, kept), grouped="kv_heads" in sites
            )
        for unit in ("cross_heads", "ffn", "experts"):
            if unit in sites:
                found[unit] = strongest(self._ranks(unit, stack, layer, kept), student.units(unit))
        if "expert_ffn" in sites:
            importance = self._ranks("expert_ffn", stack, layer, kept)
            count = student.units("expert_ffn")
            found["expert_ffn"] = tuple(strongest(importance[e], count) for e in found["experts"])
        return found

    def _ranks(self, unit: str, stack: str, layer: int, kept: Units) -> Tensor:
        """Return the importance of a layer's units, or over all layers if they share their units.

        If all units stay, the calibration need not have them.
        """
        criterion = self.student.width_policy.criterion(unit)
        if unit in self.student.whole_axes(self.layout.architecture):
            criterion = "position"
        by_layer = ranking(self.importance, f"{stack}.{unit}", criterion)
        if unit not in self.layout.family.shared:
            return by_layer[layer]
        over_all: Tensor = torch.linalg.vector_norm(by_layer[list(kept)], dim=0)
        return over_all

    def _heads(self, importance: Tensor, *, grouped: bool) -> dict[str, Units]:
        """Select query and key-value heads of one layer by the importance of its query heads."""
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
    """Return ascending indices of the most important units; ties go to the lower index."""
    if count >= len(importance):
        return tuple(range(len(importance)))
    found = importance.argsort(descending=True, stable=True)[:count]
    return tuple(found.sort().values.tolist())


@dataclass(frozen=True)
class Pinned(FixedPolicy):
    """A layer policy that keeps the given layers of each stack.

    Attributes:
        name: Name of the policy that chose them.
        stacks: Pairs of a stack and its layers, ascending.
    """

    name: str
    stacks: tuple[tuple[str, tuple[int, ...]], ...]

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        layers = dict(self.stacks).get(stack, ())
        if len(layers) != count or (layers and layers[-1] >= total):
            raise Infeasible(
                f"{count} of {total} layers of the {stack or 'only'} stack: the pinned layers are "
                f"{list(layers)}; expected {count} layers below {total}"
            )
        return layers


def pinned(architecture: Architecture, kept: Selection) -> Architecture:
    """Return the architecture with the kept layers' depth and a policy that keeps these layers."""
    depths = {
        size: len(kept.layers(stack))
        for stack, size in family_of(architecture.model_type).depths.items()
        if stack in kept.stacks
    }
    stacks = tuple((stack, kept.layers(stack)) for stack in kept.stacks)
    sizes: dict[str, Any] = depths
    return replace(
        architecture, **sizes, layer_policy=Pinned(architecture.layer_policy.name, stacks)
    )
