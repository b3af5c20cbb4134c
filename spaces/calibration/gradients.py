"""Gradients of a model's loss, or of its outputs, with respect to its units."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces.models.activations import HEADS, by_sequence, inputs
from protege.spaces.models.batches import Batch, answers, next_token_loss, reading, written
from protege.spaces.models.laid_out import LaidOutModel

Place = tuple[str, int]
"""A site, such as ``decoder.cross_heads``, and the layer's number."""

Found = tuple[int, dict[Place, Tensor]]
"""The number of measurements, and their sum for each place, ``(units,)``."""


@dataclass(frozen=True, eq=False)
class UnitGate:
    """A factor of one on each unit of a site, to take the gradient with respect to it.

    Attributes:
        module: The module whose input or output the units are.
        place: Key under which gradients are summed; all norms share one.
        units: Number of units.
        at_output: Whether the units are the module's output.
    """

    module: nn.Module
    place: Place
    units: int
    at_output: bool = False

    def hook(self, keep: Callable[[Tensor], None], batch: Batch) -> Callable[[], None]:
        """Install the gate as a hook.

        Args:
            keep: Receives the gates, ``(sequences, units)``, of each call.
            batch: The model's inputs.

        Returns:
            A function that removes the hook.
        """

        def gated(values: Tensor) -> Tensor:
            by_text = by_sequence(values, batch)
            if by_text is None:
                return values
            ones = by_text.new_ones(len(by_text), self.units, requires_grad=True)
            keep(ones)
            by_unit = by_text.unflatten(-1, (self.units, -1))
            of_tokens = ones.reshape(len(ones), *[1] * (by_unit.ndim - 3), self.units, 1)
            found: Tensor = (by_unit * of_tokens).reshape(values.shape)
            return found

        if self.at_output:
            after: Callable[..., Any] = lambda _m, _given, output: gated(output)  # noqa: E731
            return self.module.register_forward_hook(after).remove
        before: Callable[..., Any] = lambda _m, given: (gated(given[0]), *given[1:])  # noqa: E731
        return self.module.register_forward_pre_hook(before).remove


def head_gates(teacher: LaidOutModel) -> Iterator[UnitGate]:
    """Yield a gate for the heads at every attention's output projection."""
    heads = teacher.architecture.num_attention_heads
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit in HEADS:
            yield UnitGate(module, (f"{slot.stack}.{unit}", slot.layer or 0), heads)


def all_gates(teacher: LaidOutModel) -> Iterator[UnitGate]:
    """Yield the gates of heads, of neurons, and of channels at the residual stream's norms."""
    yield from head_gates(teacher)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit == "ffn":
            yield UnitGate(module, (f"{slot.stack}.ffn", slot.layer or 0), inputs(module))
    width = teacher.architecture.hidden_size
    for module, _ in teacher.layout.norms(teacher.model):
        yield UnitGate(module, ("hidden", 0), width, at_output=True)


def slopes(teacher: LaidOutModel, batch: Batch, first: int, gates: Iterable[UnitGate]) -> Found:
    """Sum ``|dL/dgate|`` over the sequences of a batch, in one backward pass.

    Args:
        teacher: The teacher.
        batch: Inputs of its forward.
        first: Number of the batch's first sequence.
        gates: The gates.
    """
    places: list[Place] = []
    ones: list[Tensor] = []

    def keeping(place: Place) -> Callable[[Tensor], None]:
        def keep(made: Tensor) -> None:
            places.append(place)
            ones.append(made)

        return keep

    with ExitStack() as handles, torch.enable_grad():
        for gate in gates:
            handles.callback(gate.hook(keeping(gate.place), batch))
        lost = losses(teacher, batch, first)
        # each sequence has gates of its own, so the losses can be summed first
        found = torch.autograd.grad(torch.stack(lost).sum(), ones, materialize_grads=True)
    sums: dict[Place, Tensor] = {}
    for place, slope in zip(places, found, strict=True):
        total = slope.abs().sum(0).cpu()
        sums[place] = sums[place] + total if place in sums else total
    return len(lost), sums


def losses(teacher: LaidOutModel, batch: Batch, first: int) -> list[Tensor]:
    """Return each sequence's next-token loss, or a random `reading` if no text is generated."""
    said, ids = answers(teacher, batch), written(teacher, batch)
    if ids is not None:
        return [next_token_loss(logits, own) for logits, own in zip(said, ids, strict=True)]
    is_logits = teacher.has_logits
    return [reading(one, first + row, is_logits=is_logits) for row, one in enumerate(said)]
