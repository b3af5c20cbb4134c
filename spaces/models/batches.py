"""Batches of model inputs."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""Keyword arguments of the model's forward, padded on either side."""

IMAGE = 64
"""Minimum number of real tokens that an image or a recording counts as."""

AT_ONCE = 1024
"""Tokens per forward pass, which bounds the memory for logits."""


def given(batch: Batch) -> dict[str, Any]:
    """Return the arguments of the forward: the batch without labels."""
    return {name: values for name, values in batch.items() if name != "labels"}


def headless(model: Any) -> Any:
    """Return the model without its head, to save the logits.

    Encoder-decoders keep the head, which prepares the decoder's inputs.
    """
    return model if model.config.is_encoder_decoder else model.base_model


def real_tokens(batch: Batch, shape: torch.Size, *, in_decoder: bool) -> Tensor | None:
    """Return the mask of real tokens, ``(sequences, tokens)``; None if all are real.

    A decoder without inputs of its own reads the encoder's tokens, shifted by one.
    """
    has_own = in_decoder and any(name.startswith("decoder_") for name in batch)
    mask = batch.get("decoder_attention_mask" if has_own else "attention_mask")
    if mask is None or mask.shape != shape or bool(mask.all()):
        return None
    real: Tensor = mask == 1
    return real


def lengths(batch: Batch) -> Tensor:
    """Count each sequence's real tokens, ``(sequences,)``; of a pair, the longer side's."""
    counts = [
        batch.get(name.replace("input_ids", "attention_mask"), torch.ones_like(ids)).sum(1)
        for name, ids in batch.items()
        if name.endswith("input_ids")
    ]
    if "input_ids" not in batch:
        counts.append(torch.full((rows(batch),), IMAGE))
    return torch.stack(counts).amax(0)


def rows(batch: Batch) -> int:
    """Return the number of sequences."""
    return len(next(iter(batch.values())))


def pieces(batch: Batch, at_once: int = AT_ONCE) -> Iterator[Batch]:
    """Split a batch into pieces of at most so many tokens, padding included."""
    longest = max((v.shape[1] for name, v in batch.items() if name.endswith("ids")), default=256)
    count = max(1, at_once // longest)
    for begin in range(0, rows(batch), count):
        yield {name: value[begin : begin + count] for name, value in batch.items()}


def by_sequence(values: Tensor, batch: Batch) -> Tensor | None:
    """Reshape activations to ``(sequences, tokens, units)``: OPT flattens all tokens."""
    if values.ndim != 2:
        return values
    tokens = batch.get("input_ids", batch.get("attention_mask"))
    if tokens is None or len(values) != tokens.numel():
        return None  # not of tokens: DeBERTa norms distances too
    by_text: Tensor = values.unflatten(0, tokens.shape)
    return by_text
