"""Record the states of a teacher's residual stream for healing."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces.models.batches import Batch, by_sequence, given, headless, real_tokens
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.residual.directions import Directions
from protege.spaces.residual.graph import ResidualGraph

TOKENS, NARROW, TOKENS_OF_NARROW = 4096, 512, 8192
"""Maximum number of real tokens to record, and that for models of at most `NARROW` channels.

It bounds the time of healing, which is a pass of the student and a fit for each projection. More
tokens still help, so models whose passes are cheap get more.
"""

TOKENS_A_CHANNEL = 21
"""Real tokens per channel for the fits, whose unknowns are the channels."""


def tokens_for(hidden_size: int) -> int:
    """Return the default number of real tokens to record for a hidden size."""
    most = TOKENS_OF_NARROW if hidden_size <= NARROW else TOKENS
    return min(most, TOKENS_A_CHANNEL * hidden_size)


_GIVEN = "given."
"""Prefix of the batch's tensors in the stored file."""


@dataclass(frozen=True, eq=False)
class ResidualStates:
    """The teacher's residual states at every place where a student is healed.

    Memory is ``4 * tokens * hidden_size`` bytes for each norm of the stream: 0.6 GB for
    SmolLM2-135M and 4,096 tokens, 80 MB for MiniLM.

    Attributes:
        wiring: The teacher's residual graph.
        batch: The inputs: one padded batch, because healing takes one pass.
        states: States of real tokens, ``(tokens, width)``, by module: the inputs of norms and of
            ``loose`` projections, and the outputs of writers without a join.
    """

    wiring: ResidualGraph
    batch: Mapping[str, Tensor]
    states: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, teacher: LaidOutModel, batch: Batch, wiring: ResidualGraph | None = None
    ) -> "ResidualStates":
        """Record a teacher's states on a batch; trace the graph if it is not given."""
        inputs, wiring = given(batch), wiring or ResidualGraph.of(teacher, batch)
        states: dict[str, Tensor] = {}
        modules = dict(teacher.model.named_modules())
        unjoined = [name for name in wiring.writers if name not in wiring.joins]
        with ExitStack() as handles, torch.inference_mode():
            for name in (*wiring.norms, *wiring.loose, *unjoined):
                hook = _recording_hook(states, inputs, wiring, name, output=name in unjoined)
                handles.enter_context(modules[name].register_forward_hook(hook))
            run_through(teacher.model, wiring, inputs)
        return cls(wiring, inputs, states)

    @classmethod
    def of_tensors(cls, wiring: ResidualGraph, tensors: Mapping[str, Tensor]) -> "ResidualStates":
        """Restore the states from `tensors`."""
        batch = {n.removeprefix(_GIVEN): t for n, t in tensors.items() if n.startswith(_GIVEN)}
        states = {n: t for n, t in tensors.items() if not n.startswith(_GIVEN)}
        return cls(wiring, batch, states)

    def tensors(self) -> dict[str, Tensor]:
        """Return states and batch by name, for the cache."""
        return {**self.states, **{f"{_GIVEN}{name}": t for name, t in self.batch.items()}}

    @cached_property
    def directions(self) -> Directions:
        """The principal directions of the norms' inputs."""
        states = {name: self.states[name] for name in self.wiring.norms}
        return Directions.of(states, centred=self.wiring.centred)


def run_through(model: Any, wiring: ResidualGraph, batch: Batch) -> None:
    """Run one pass, without the head unless a ``loose`` projection is in it."""
    base = f"{model.base_model_prefix}."
    outside = any(not name.startswith(base) for name in wiring.loose)
    (model if outside else headless(model))(**batch)


def real_rows(values: Tensor, batch: Batch, *, in_decoder: bool) -> Tensor:
    """Select the rows of real tokens, ``(tokens, width)``; all rows without a mask."""
    by_text = by_sequence(values, batch)
    flat = values.reshape(-1, values.shape[-1])
    if by_text is None:
        return flat
    real = real_tokens(batch, by_text.shape[:-1], in_decoder=in_decoder)
    # index_select copies whole rows faster than a boolean mask
    return flat if real is None else flat.index_select(0, real.flatten().nonzero().squeeze(1))


def _recording_hook(
    states: dict[str, Tensor], batch: Batch, wiring: ResidualGraph, name: str, *, output: bool
) -> Callable[..., None]:
    def hook(_module: nn.Module, read: tuple[Any, ...], gave: Any) -> None:
        if name in states:  # DeBERTa runs its projections on tokens, then on distances
            return
        values: Tensor = (gave if output else read[0]).cpu()
        in_decoder = name in wiring.in_decoder
        rows = real_rows(values, batch, in_decoder=in_decoder)
        states[name] = rows.detach().float().clone()

    return hook
