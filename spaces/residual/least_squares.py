"""Ridge regression of linear layers towards their current weights."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PRIOR = 4096
"""Strength of the prior on the initial weights, in tokens.

Tuned on SmolLM2-135M and MiniLM with 4,096 to 16,384 tokens; smaller values overfit.
"""


@dataclass(frozen=True)
class Fit:
    """A linear map ``y = weight x + bias``; the weight is ``(outputs, inputs)``."""

    weight: Tensor
    bias: Tensor | None = None


def refitted(start: Fit, inputs: Tensor, outputs: Tensor, weights: Tensor | None = None) -> Fit:
    """Fit a linear map by ridge regression of outputs on inputs, towards the initial map.

    Minimises ``sum_t w_t |y_t - W x_t - b|^2 + PRIOR e |W - W0|^2``, with token weights scaled to
    mean one and e the mean energy of an input (its variance if there is an intercept). Directions
    without data keep the initial weights; a map that is already exact is returned unchanged. Takes
    one Cholesky factorisation in single precision, which the prior keeps well-conditioned, of as
    many rows as there are inputs or tokens, whichever are fewer.

    Args:
        start: The initial map; the intercept is fitted if it has a bias.
        inputs: ``(tokens, inputs)``.
        outputs: ``(tokens, outputs)``.
        weights: Token weights, ``(tokens,)``; equal if None.
    """
    if _is_right(start, inputs, outputs, weights):
        return start
    middle = goal = None
    if start.bias is not None:
        # centre before the products: afterwards, inputs of low variance would lose all digits
        middle, goal = _mean(inputs, weights), _mean(outputs, weights)
        inputs, outputs = inputs - middle, outputs - goal
    if len(inputs) < inputs.shape[1]:
        weight = start.weight + _step_by_tokens(start, inputs, outputs, weights)
    else:
        weighted = inputs if weights is None else inputs * (weights / weights.mean()).unsqueeze(1)
        gram, cross = weighted.T @ inputs, outputs.T @ weighted
        missing = cross.addmm_(start.weight, gram, alpha=-1)
        weight = start.weight + step(gram, missing, len(inputs))
    return Fit(weight, None if middle is None or goal is None else goal - weight @ middle)


def _is_right(start: Fit, inputs: Tensor, outputs: Tensor, weights: Tensor | None) -> bool:
    """Return whether the map is exact up to rounding."""
    for rows in (slice(0, 32), slice(None)):  # a few tokens rule out most maps cheaply
        given, wanted = inputs[rows], outputs[rows]
        of = None if weights is None else weights[rows]
        missing = torch.addmm(wanted, given, start.weight.T, alpha=-1)
        missing = missing if start.bias is None else missing - start.bias
        if _energy(missing, of) > 1e-9 * _energy(wanted, of):
            return False
    return True


def step(gram: Tensor, missing: Tensor, tokens: float) -> Tensor:
    """Return the update of a map: ``missing (gram + PRIOR e I)^-1``, e the mean input energy.

    Args:
        gram: Sum of ``x x^T`` over tokens, ``(inputs, inputs)``.
        missing: Sum of ``(y - W x) x^T``, ``(outputs, inputs)``.
        tokens: Number of tokens.

    Returns:
        The update, ``(outputs, inputs)``; zero if the factorisation fails.
    """
    factor, failed = torch.linalg.cholesky_ex(damped(gram, tokens))
    if int(failed):
        return torch.zeros_like(missing)
    return torch.cholesky_solve(missing.T, factor).T


def _step_by_tokens(start: Fit, inputs: Tensor, outputs: Tensor, weights: Tensor | None) -> Tensor:
    """Return the same update as `step`, by the dual problem ``M^T (X X^T + PRIOR e I)^-1 X``.

    X are the inputs and M what is missing of the outputs, both times the roots of the weights.
    """
    missing = torch.addmm(outputs, inputs, start.weight.T, alpha=-1)
    if weights is not None:
        roots = (weights / weights.mean()).sqrt().unsqueeze(1)
        inputs, missing = inputs * roots, missing * roots
    tokens, units = inputs.shape
    mean = float(inputs.square().sum()) / units
    kernel = inputs @ inputs.T
    kernel.diagonal().add_(_damping(mean, tokens))
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if int(failed):
        return torch.zeros_like(start.weight)
    return torch.cholesky_solve(missing, factor).T @ inputs


def damped(gram: Tensor, tokens: float) -> Tensor:
    """Add the prior, `PRIOR` tokens of the mean energy, to a second moment's diagonal."""
    found = gram.clone()
    found.diagonal().add_(_damping(float(gram.diagonal().mean()), tokens))
    return found


def _damping(mean: float, tokens: float) -> float:
    """Return what is added to a second moment's diagonal of this mean."""
    return PRIOR / tokens * mean + 1e-6 * mean


def _energy(values: Tensor, weights: Tensor | None) -> Tensor:
    by_token = values.square().sum(1)
    return by_token.sum() if weights is None else by_token @ weights


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean(0)
    return (values * weights.unsqueeze(1)).sum(0) / weights.sum()


def gains_refitted(norm: nn.Module, gave: Tensor, wanted: Tensor, offset: float) -> None:
    """Fit a norm's gains, and its bias if it has one, per channel, in place.

    Args:
        norm: The norm; its gain is ``weight`` plus the offset.
        gave: Its current output, ``(tokens, width)``.
        wanted: The target output, same shape.
        offset: Offset of the weight, 1 in Gemma.
    """
    gain: Any = norm.weight
    bias: Any = getattr(norm, "bias", None)
    middle = gave.mean(0) if bias is not None else 0.0
    goal = wanted.mean(0) if bias is not None else 0.0
    energy = (gave - middle).square().sum(0)
    # a gain is one parameter per channel, so its prior is smaller by the number of inputs
    prior = energy * (PRIOR / gave.shape[1] / len(gave)) + 1e-12
    factor = (((gave - middle) * (wanted - goal)).sum(0) + prior) / (energy + prior)
    gain.copy_((gain + offset) * factor - offset)
    if bias is not None:
        bias.copy_(goal - factor * (middle - bias))
