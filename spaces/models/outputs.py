"""What a model says of a batch, sequence by sequence, and how far it is from saying the same."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

from protege.spaces.checkpoints.tasks import Task
from protege.spaces.models.batches import Batch, given, real_tokens
from protege.spaces.models.laid_out import LaidOutModel


def answers(teacher: LaidOutModel, batch: Batch) -> list[Tensor]:
    """The model's answers to each sequence, ``(answers, width)``, those to padding left out.

    Logits where it has a head, states where it has none: of every real token, or of the sequence.
    Of a span the answers are two, start and end, each over the sequence's real tokens.
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


def _real(answer: Tensor, batch: Batch) -> list[Tensor]:
    """What is said of real tokens: of the decoder's, where the batch says what those are."""
    real = real_tokens(batch, answer.shape[:2], in_decoder=True)
    return list(answer) if real is None else [a[mask] for a, mask in zip(answer, real, strict=True)]


def written(teacher: LaidOutModel, batch: Batch) -> list[Tensor] | None:
    """The real tokens that a model is given of what it writes; none where it writes nothing."""
    side = "decoder_" if teacher.config.is_encoder_decoder else ""
    ids = batch.get(f"{side}input_ids")
    if not teacher.generates or ids is None:
        return None
    mask = batch.get(f"{side}attention_mask", torch.ones_like(ids))
    return [row[real] for row, real in zip(ids, mask == 1, strict=True)]


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """The loss of every token but the first, summed; logits ``(tokens, vocabulary)``."""
    return nll_loss(log_softmax(logits[:-1], dim=-1), ids[1:], reduction="sum")


def reading(answer: Tensor, number: int, *, is_logits: bool) -> Tensor:
    """A random linear reading of a sequence's answers, ``(answers, width)``.

    Each entry gets a random sign and a weight that does not move: the square root of its
    probability for log-probabilities, one over the norm of its state for states. A change of the
    answer changes the reading by what is, squared and in the mean over signs, the square of the
    change: with p the Fisher information, twice the Kullback-Leibler divergence of a small change;
    of a state its relative square.

    Args:
        answer: The answers.
        number: The sequence's, from which its signs are drawn.
        is_logits: Whether they are logits.
    """
    generator = torch.Generator().manual_seed(number)
    signs = torch.randint(2, answer.shape, generator=generator, dtype=torch.int8) * 2.0 - 1
    if is_logits:
        logs = log_softmax(answer, dim=-1)
        return (signs * (logs.detach() / 2).exp() * logs).sum()
    return (signs * answer / _norm(answer.detach())).sum()


def distance(whole: Tensor, answer: Tensor, *, is_logits: bool) -> Tensor:
    """How far answers are from the whole model's, ``(answers, width)``, summed over them.

    Kullback-Leibler divergence of logits, in nats; of states the square relative to their own.
    """
    if not is_logits:
        return ((answer - whole) / _norm(whole)).square().sum()
    # written so that no more than rounding is left where the two are all but equal
    moved = (whole.softmax(dim=-1) * (whole - answer)).sum(-1)
    return (moved + answer.logsumexp(-1) - whole.logsumexp(-1)).clamp(min=0).sum()


def _norm(states: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return norms.clamp(min=1e-6)
