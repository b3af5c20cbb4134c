"""What runs through the teacher's residual stream on some of the data, remembered for healing."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces.models.activations import by_sequence
from protege.spaces.models.batches import Batch, given, headless, real_tokens
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.residual.directions import Directions
from protege.spaces.residual.graph import Wiring

TOKENS = 4096
"""Real tokens that are remembered, at most: what a short healing has the time for."""

TOKENS_A_CHANNEL = 8
"""As many for each channel of the stream are enough: each is an unknown of what is fitted."""


def tokens_for(hidden_size: int) -> int:
    """How many real tokens a teacher of that width is remembered on, unless told otherwise."""
    return min(TOKENS, TOKENS_A_CHANNEL * hidden_size)


_GIVEN = "given."
"""Begins the names of the batch's own tensors, where all are stored together."""


@dataclass(frozen=True, eq=False)
class Streams:
    """The teacher's states at every place where a student is repaired.

    Memory is ``4 * tokens * hidden_size`` bytes for each norm of the stream: 0.6 GB for
    SmolLM2-135M and 4,096 tokens, 80 MB for MiniLM.

    Attributes:
        wiring: How the teacher's stream runs.
        batch: What its forward was given: one batch, padded, since a student is healed in one pass.
        states: Of real tokens, ``(tokens, width)``: by norm what it was given; what ``loose``
            projections read, and what projections that join no stream wrote, by their own names.
    """

    wiring: Wiring
    batch: Mapping[str, Tensor]
    states: Mapping[str, Tensor]

    @classmethod
    def of(cls, teacher: LaidOutModel, batch: Batch, wiring: Wiring | None = None) -> "Streams":
        """The streams of a teacher on a batch of its own inputs; its wiring, where it is known."""
        inputs, wiring = given(batch), wiring or Wiring.of(teacher, batch)
        states: dict[str, Tensor] = {}
        modules = dict(teacher.model.named_modules())
        unjoined = [name for name in wiring.writers if name not in wiring.joins]
        with ExitStack() as handles, torch.inference_mode():
            for name in (*wiring.norms, *wiring.loose, *unjoined):
                hook = _remembering(states, inputs, wiring, name, output=name in unjoined)
                handles.callback(modules[name].register_forward_hook(hook).remove)
            run_through(teacher.model, wiring, inputs)
        return cls(wiring, inputs, states)

    @classmethod
    def of_tensors(cls, wiring: Wiring, tensors: Mapping[str, Tensor]) -> "Streams":
        """The streams that `tensors` gave."""
        batch = {n.removeprefix(_GIVEN): t for n, t in tensors.items() if n.startswith(_GIVEN)}
        states = {n: t for n, t in tensors.items() if not n.startswith(_GIVEN)}
        return cls(wiring, batch, states)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, as a cache stores it."""
        return {**self.states, **{f"{_GIVEN}{name}": t for name, t in self.batch.items()}}

    @cached_property
    def directions(self) -> Directions:
        """The principal directions of the stream, as the norms see it."""
        states = {name: self.states[name] for name in self.wiring.norms}
        return Directions.of(states, centred=self.wiring.centred)


def run_through(model: Any, wiring: Wiring, batch: Batch) -> None:
    """One pass; without the head, but where that has states of its own to be remembered."""
    base = f"{model.base_model_prefix}."
    outside = any(not name.startswith(base) for name in wiring.loose)
    (model if outside else headless(model))(**batch)


def real_rows(values: Tensor, batch: Batch, *, in_decoder: bool) -> Tensor:
    """What belongs to real tokens, ``(tokens, width)``; all of it where no mask says otherwise."""
    by_text = by_sequence(values, batch)
    flat = values.reshape(-1, values.shape[-1])
    if by_text is None:
        return flat
    real = real_tokens(batch, by_text.shape[:-1], in_decoder=in_decoder)
    # by number: whole rows are copied faster than a mask picks them
    return flat if real is None else flat.index_select(0, real.flatten().nonzero().squeeze(1))


def _remembering(
    states: dict[str, Tensor], batch: Batch, wiring: Wiring, name: str, *, output: bool
) -> Callable[..., None]:
    def hook(_module: nn.Module, read: tuple[Any, ...], gave: Any) -> None:
        if name in states:  # DeBERTa's projections read tokens first, then distances
            return
        values: Tensor = (gave if output else read[0]).cpu()
        in_decoder = name in wiring.in_decoder
        rows = real_rows(values, batch, in_decoder=in_decoder)
        states[name] = rows.detach().float().clone()

    return hook
