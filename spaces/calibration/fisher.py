"""Measure how an error at the output of a feed-forward network changes the model's answer."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from protege.spaces.calibration.layers import first_sequences
from protege.spaces.models.batches import Batch, by_sequence, pieces, real_tokens, rows
from protege.spaces.models.layout import LaidOutModel, Place
from protege.spaces.models.outputs import final_answers, reading
from protege.spaces.remaining import Remaining

TOKENS = 2048
"""Real tokens to measure on: whole sequences, from the first on."""

AT_ONCE = 256
"""Tokens of one backward pass, which bounds the memory for logits."""

DAMPING = 0.01
"""What is added to the metric's diagonal, relative to its mean."""


def output_metrics(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    announce: Callable[[str], None] = lambda _: None,
) -> dict[Place, Tensor]:
    """Measure the Fisher information at the output of every feed-forward network.

    With g the gradient of a random `reading` of the answer with respect to a token's output of the
    network, and ``F = E[g g^T]``, an error d in the output changes the answer by about
    ``d^T F d / 2``, in nats for logits (Martens, arXiv 1412.1193). The answer of an encoder of
    sentences is its pooled vector.

    Returns:
        By place, an upper triangular R, ``(width, width)``, with ``R^T R`` equal to F scaled to a
        mean diagonal of one, plus `DAMPING`. Networks whose output no answer depends on are left
        out.
    """
    reading = teacher.layout.reading(teacher.model)
    if not any(unit == "ffn" for _, _, unit in reading):
        return {}  # experts alone
    parts = [piece for one in first_sequences(batches, TOKENS) for piece in pieces(one, AT_ONCE)]
    remaining = Remaining(announce, "measuring sensitivity")
    sums: dict[Place, Tensor] = {}
    first = 0
    for number, piece in enumerate(parts, 1):
        for place, slopes in _slopes(teacher, piece, first).items():
            moment = slopes.T @ slopes
            sums[place] = sums[place] + moment if place in sums else moment
        first += rows(piece)
        remaining.at(number / len(parts))
    return {place: _root(total) for place, total in sums.items() if float(total.trace()) > 0}


def _root(moment: Tensor) -> Tensor:
    """Return the upper triangular factor of the scaled and damped moment."""
    scaled = moment.double() / float(moment.diagonal().mean())
    scaled.diagonal().add_(DAMPING)
    root: Tensor = torch.linalg.cholesky(scaled, upper=True)
    return root.float()


def _slopes(teacher: LaidOutModel, batch: Batch, first: int) -> dict[Place, Tensor]:
    """Return the gradients of a batch's readings at each network's output, ``(tokens, width)``."""
    made: dict[Place, Tensor] = {}
    with ExitStack() as handles, torch.enable_grad():
        for module, slot, unit in teacher.layout.reading(teacher.model):
            if unit == "ffn":
                place = f"{slot.stack}.ffn", slot.layer or 0
                handles.enter_context(_probe(module, place, made))
        said, is_logits = final_answers(teacher, batch), teacher.has_logits
        lost = [reading(one, first + row, is_logits=is_logits) for row, one in enumerate(said)]
        probes = list(made.values())
        found = torch.autograd.grad(torch.stack(lost).sum(), probes, materialize_grads=True)
    pairs = zip(made, found, strict=True)
    return {place: _real(slope, batch, place).float().cpu() for place, slope in pairs}


def _probe(module: nn.Module, place: Place, made: dict[Place, Tensor]) -> RemovableHandle:
    """Add zeros to a module's output, by a hook, to take the gradient with respect to them."""

    def hook(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        made[place] = torch.zeros_like(output, requires_grad=True)
        return output + made[place]

    return module.register_forward_hook(hook)


def _real(slopes: Tensor, batch: Batch, place: Place) -> Tensor:
    by_text = by_sequence(slopes, batch)
    if by_text is None:
        return slopes
    in_decoder = place[0].startswith("decoder.")
    real = real_tokens(batch, by_text.shape[:2], in_decoder=in_decoder)
    return by_text.flatten(0, -2) if real is None else by_text[real]
