"""A batch of a model's inputs: which of its tokens are real, and how it runs through the model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""Keyword arguments of the model's forward, padded on either side."""

IMAGE = 64
"""Real tokens that an image or a sound counts as, at least."""


def given(batch: Batch) -> dict[str, Any]:
    """What the forward is called with: all but labels."""
    return {name: values for name, values in batch.items() if name != "labels"}


def headless(model: Any) -> Any:
    """The model without its head, whose logits are many.

    With it where it is the head that says what a decoder is given.
    """
    return model if model.config.is_encoder_decoder else model.base_model


def real_tokens(batch: Batch, shape: torch.Size, *, in_decoder: bool) -> Tensor | None:
    """Which tokens are real, in that shape of sequences and tokens; none where all of them are.

    A decoder that is given no tokens of its own reads those of its encoder, one place further.
    """
    has_own = in_decoder and any(name.startswith("decoder_") for name in batch)
    mask = batch.get("decoder_attention_mask" if has_own else "attention_mask")
    if mask is None or mask.shape != shape or bool(mask.all()):
        return None
    real: Tensor = mask == 1
    return real


def lengths(batch: Batch) -> Tensor:
    """Real tokens of each sequence, of the longer side of a pair, ``(sequences,)``."""
    counts = [
        batch.get(name.replace("input_ids", "attention_mask"), torch.ones_like(ids)).sum(1)
        for name, ids in batch.items()
        if name.endswith("input_ids")
    ]
    if "input_ids" not in batch:
        counts.append(torch.full((rows(batch),), IMAGE))
    return torch.stack(counts).amax(0)


def rows(batch: Batch) -> int:
    """How many sequences there are."""
    return len(next(iter(batch.values())))
