"""Linear layers fitted in closed form, drawn towards what they were."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PRIOR = 4096
"""Tokens that the weights a fit begins with count for: about a layer's worth of evidence.

Measured on SmolLM2-135M and MiniLM with 4,096 to 16,384 tokens; fewer overfit what is seen.
"""


@dataclass(frozen=True)
class Fit:
    """A linear map ``y = weight x + bias``.

    Attributes:
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)``; none where there is none.
    """

    weight: Tensor
    bias: Tensor | None = None


def refitted(start: Fit, inputs: Tensor, outputs: Tensor, weights: Tensor | None = None) -> Fit:
    """The ridge regression of outputs on inputs, drawn towards the map it starts from.

    Minimises ``sum_t w_t |y_t - W x_t - b|^2 + PRIOR e |W - W0|^2``, the weights scaled to a mean
    of one, with e the mean energy of an input (its variance where there is an intercept): what is
    not seen on the data stays as it was, and a map that is right already is left as it is, to the
    bit. One Cholesky factorisation, in single precision; the prior keeps it sound.

    Args:
        start: The map; the intercept is free where it has a bias.
        inputs: ``(tokens, inputs)``.
        outputs: ``(tokens, outputs)``.
        weights: Of tokens, ``(tokens,)``; all alike if not given.
    """
    if _is_right(start, inputs, outputs, weights):
        return start
    # a copy or two and two products: the rest of a fit is small beside them
    middle = goal = None
    if start.bias is not None:
        # before the products and not after: of inputs that hardly vary no digit would be left
        middle, goal = _mean(inputs, weights), _mean(outputs, weights)
        inputs, outputs = inputs - middle, outputs - goal
    weighted = inputs if weights is None else inputs * (weights / weights.mean()).unsqueeze(1)
    gram, cross = weighted.T @ inputs, outputs.T @ weighted
    missing = cross.addmm_(start.weight, gram, alpha=-1)
    weight = start.weight + step(gram, missing, len(inputs))
    return Fit(weight, None if middle is None or goal is None else goal - weight @ middle)


def _is_right(start: Fit, inputs: Tensor, outputs: Tensor, weights: Tensor | None) -> bool:
    """Whether the map misses nothing but rounding; a few tokens tell most that do."""
    for rows in (slice(0, 32), slice(None)):
        given, wanted = inputs[rows], outputs[rows]
        of = None if weights is None else weights[rows]
        missing = torch.addmm(wanted, given, start.weight.T, alpha=-1)
        missing = missing if start.bias is None else missing - start.bias
        if _energy(missing, of) > 1e-9 * _energy(wanted, of):
            return False
    return True


def step(gram: Tensor, missing: Tensor, tokens: float) -> Tensor:
    """What to add to a map: ``missing (gram + PRIOR e I)^-1``, e the mean energy of an input.

    Args:
        gram: Sum of ``x x^T`` over tokens, ``(inputs, inputs)``.
        missing: Sum of ``(y - W x) x^T``, ``(outputs, inputs)``.
        tokens: How many those are.
    """
    factor, failed = torch.linalg.cholesky_ex(damped(gram, tokens))
    if int(failed):
        return torch.zeros_like(missing)
    return torch.cholesky_solve(missing.T, factor).T


def damped(gram: Tensor, tokens: float) -> Tensor:
    """A second moment with the prior on its diagonal: `PRIOR` tokens of the mean energy."""
    found = gram.clone()
    mean = float(gram.diagonal().mean())
    found.diagonal().add_(PRIOR / tokens * mean + 1e-6 * mean)
    return found


def _energy(values: Tensor, weights: Tensor | None) -> Tensor:
    by_token = values.square().sum(1)
    return by_token.sum() if weights is None else by_token @ weights


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean(0)
    return (values * weights.unsqueeze(1)).sum(0) / weights.sum()


def gains_refitted(norm: nn.Module, gave: Tensor, wanted: Tensor, offset: float) -> None:
    """Fit a norm's gains, and its biases where it has any, channel by channel, in place.

    Args:
        norm: Its ``weight`` multiplies, with the offset added.
        gave: What it gives now, ``(tokens, width)``.
        wanted: What it should give, the same shape.
        offset: Added to the weight, as Gemma does.
    """
    gain: Any = norm.weight
    bias: Any = getattr(norm, "bias", None)
    middle = gave.mean(0) if bias is not None else 0.0
    goal = wanted.mean(0) if bias is not None else 0.0
    energy = (gave - middle).square().sum(0)
    # one number a channel: it needs as much less evidence as it has fewer inputs than a layer
    prior = energy * (PRIOR / gave.shape[1] / len(gave)) + 1e-12
    factor = (((gave - middle) * (wanted - goal)).sum(0) + prior) / (energy + prior)
    gain.copy_((gain + offset) * factor - offset)
    if bias is not None:
        bias.copy_(goal - factor * (middle - bias))
