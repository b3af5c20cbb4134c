"""A model's outputs on batches, and distances between outputs."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

from protege.spaces.checkpoints.pooling import Embedder
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.models.batches import Batch, given, real_tokens
from protege.spaces.models.layout import LaidOutModel

_EMBEDDED = ("input_ids", "attention_mask", "pixel_values")
"""The inputs of an `Embedder`."""


def answers(teacher: LaidOutModel, batch: Batch) -> list[Tensor]:
    """Run the model and return its outputs for each sequence, without padding.

    Returns:
        For each sequence, ``(outputs, width)``: logits if the model has a head, else states, for
        every real token or for the sequence. Span models have two outputs, the start and end
        logits over the real tokens.
    """
    inputs = given(batch)
    if "use_cache" in signature(teacher.model.forward).parameters:
        inputs["use_cache"] = False
    output: Any = teacher.model(**inputs)
    if teacher.task is Task.QUESTIONS:
        spans = torch.stack([output.start_logits, output.end_logits], dim=-1)
        return [one.T for one in _real(spans, batch)]
    found: Tensor = output[0]
    return list(found.unsqueeze(1)) if found.ndim == 2 else _real(found, batch)


def final_answers(teacher: LaidOutModel, batch: Batch) -> list[Tensor]:
    """Return each sequence's `answers`, or its pooled vector, ``(1, width)``, if the model pools.

    A projection behind the pooling is left out.
    """
    if teacher.pooling is None:
        return answers(teacher, batch)
    read = {name: values for name, values in given(batch).items() if name in _EMBEDDED}
    vectors: Tensor = Embedder(teacher.model, teacher.pooling, None)(**read)
    return list(vectors.unsqueeze(1))


def _real(answer: Tensor, batch: Batch) -> list[Tensor]:
    """Select the outputs of real tokens, those of the decoder if it has tokens of its own."""
    real = real_tokens(batch, answer.shape[:2], in_decoder=True)
    return list(answer) if real is None else [a[mask] for a, mask in zip(answer, real, strict=True)]


def written(teacher: LaidOutModel, batch: Batch) -> list[Tensor] | None:
    """Return each sequence's decoder input ids without padding; None if nothing is generated."""
    side = "decoder_" if teacher.config.is_encoder_decoder else ""
    ids = batch.get(f"{side}input_ids")
    if not teacher.generates or ids is None:
        return None
    mask = batch.get(f"{side}attention_mask", torch.ones_like(ids))
    return [row[real] for row, real in zip(ids, mask == 1, strict=True)]


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Sum the cross-entropy of all tokens but the first; logits ``(tokens, vocabulary)``."""
    return nll_loss(log_softmax(logits[:-1], dim=-1), ids[1:], reduction="sum")


def reading(answer: Tensor, number: int, *, is_logits: bool) -> Tensor:
    """Project a sequence's outputs, ``(outputs, width)``, onto a random direction.

    Each entry gets a random sign and a constant weight: for log-probabilities the square root of
    the probability, for states one over the state's norm. When the outputs change, the expected
    squared change of the projection is twice the Kullback-Leibler divergence (for small changes, by
    the Fisher information), or for states the relative squared change. The seed of the signs is the
    sequence's number.
    """
    generator = torch.Generator().manual_seed(number)
    signs = torch.randint(2, answer.shape, generator=generator, dtype=torch.int8) * 2.0 - 1
    if is_logits:
        logs = log_softmax(answer, dim=-1)
        return (signs * (logs.detach() / 2).exp() * logs).sum()
    return (signs * answer / _norm(answer.detach())).sum()


def distance(whole: Tensor, answer: Tensor, *, is_logits: bool) -> Tensor:
    """Sum the distances between outputs and the whole model's, both ``(outputs, width)``.

    For logits the Kullback-Leibler divergence in nats, for states the relative squared distance.
    """
    if not is_logits:
        return ((answer - whole) / _norm(whole)).square().sum()
    # this form is accurate for nearly equal logits
    moved = (whole.softmax(dim=-1) * (whole - answer)).sum(-1)
    return (moved + answer.logsumexp(-1) - whole.logsumexp(-1)).clamp(min=0).sum()


def _norm(states: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return norms.clamp(min=1e-6)
