"""What runs through the teacher's residual stream on some of the data, remembered for healing."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protege.spaces.answers import Batch
from protege.spaces.directions import Directions
from protege.spaces.wiring import Wiring

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher

TOKENS = 4096
"""Real tokens that are remembered unless told otherwise: what a short healing has the time for."""

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
    def of(cls, teacher: "Teacher", batch: Batch) -> "Streams":
        """The streams of a teacher on a batch of its own inputs."""
        given = {name: values for name, values in batch.items() if name != "labels"}
        wiring = Wiring.of(teacher, given)
        states: dict[str, Tensor] = {}
        modules = dict(teacher.model.named_modules())
        unjoined = [name for name in wiring.writers if name not in wiring.joins]
        with ExitStack() as handles, torch.inference_mode():
            for name in (*wiring.norms, *wiring.loose, *unjoined):
                hook = _remembering(states, given, wiring, name, output=name in unjoined)
                handles.callback(modules[name].register_forward_hook(hook).remove)
            run_through(teacher.model, wiring, given)
        return cls(wiring, given, states)

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

    @cached_property
    def tokens(self) -> int:
        """Real tokens of the longest side."""
        return max(len(states) for states in self.states.values())


def run_through(model: Any, wiring: Wiring, batch: Batch) -> None:
    """One pass; without the head where it only writes, since a vocabulary's logits are many."""
    base = model.base_model
    inside = {name for name, _ in model.named_modules() if name.startswith(model.base_model_prefix)}
    outside = [name for name in wiring.loose if name not in inside]
    paired = model.config.is_encoder_decoder
    (model if paired or outside else base)(**batch)


def real_rows(values: Tensor, batch: Batch, *, in_decoder: bool) -> Tensor:
    """What belongs to real tokens, ``(tokens, width)``; all of it where no mask says otherwise.

    A decoder that is given no tokens of its own reads those of its encoder, one place further.
    """
    has_own = in_decoder and any(name.startswith("decoder_") for name in batch)
    mask = batch.get("decoder_attention_mask" if has_own else "attention_mask")
    flat = values.reshape(-1, values.shape[-1])
    if mask is None or values.shape[:-1] not in {mask.shape, (mask.numel(),)}:
        return flat
    real = mask.reshape(-1).bool()
    return flat if bool(real.all()) else flat[real]


def _remembering(
    states: dict[str, Tensor], batch: Batch, wiring: Wiring, name: str, *, output: bool
) -> Callable[..., None]:
    def hook(_module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        if name in states:  # DeBERTa's projections read tokens first, then distances
            return
        values: Tensor = gave if output else given[0]
        in_decoder = name in wiring.in_decoder
        rows = real_rows(values, batch, in_decoder=in_decoder)
        states[name] = rows.detach().float().clone()

    return hook
