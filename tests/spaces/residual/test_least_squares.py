"""Closed-form fits are what their documents say, to the last figures of single precision."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces.residual.least_squares import PRIOR, Fit, gains_refitted, refitted, step

sizes = st.integers(1, 9)
tokens = st.integers(2, 60)
seeds = st.integers(0, 2**16)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def solved(start: Fit, x: Tensor, y: Tensor, w: Tensor | None) -> Fit:
    """The minimum of the documented loss by its normal equations, intercept and all, in fp64."""
    x, y = x.double(), y.double()
    weights = torch.ones(len(x), dtype=torch.float64) if w is None else w.double()
    weights = weights / weights.mean()
    middle = (weights[:, None] * x).mean(0) if start.bias is not None else torch.zeros(x.shape[1])
    energy = (weights[:, None] * (x - middle).square()).sum(0).mean()
    damping = (PRIOR / len(x) + 1e-6) * energy
    inputs = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    if start.bias is None:
        inputs = inputs[:, :-1]
    penalty = torch.zeros(inputs.shape[1], dtype=torch.float64)
    penalty[: x.shape[1]] = damping
    drawn_to = torch.zeros(len(start.weight), inputs.shape[1], dtype=torch.float64)
    drawn_to[:, : x.shape[1]] = start.weight * damping
    left = inputs.T @ (weights[:, None] * inputs) + torch.diag(penalty)
    right = (weights[:, None] * y).T @ inputs + drawn_to
    found = torch.linalg.solve(left, right.T).T
    if start.bias is None:
        return Fit(found.float())
    return Fit(found[:, :-1].float(), found[:, -1].float())


@given(
    count=tokens,
    inputs=sizes,
    outputs=sizes,
    seed=seeds,
    has_bias=st.booleans(),
    has_weights=st.booleans(),
)
@example(count=2, inputs=1, outputs=1, seed=56, has_bias=True, has_weights=False)  # all but alike
def test_a_refit_is_the_least_of_its_loss(
    *, count: int, inputs: int, outputs: int, seed: int, has_bias: bool, has_weights: bool
) -> None:
    """Brute force over weight and intercept finds the same map."""
    x, y = drawn(seed, count, inputs) + 0.5, drawn(seed + 1, count, outputs) - 0.5
    weights = drawn(seed + 2, count).abs() + 0.1 if has_weights else None
    start = Fit(drawn(seed + 3, outputs, inputs), drawn(seed + 4, outputs) if has_bias else None)
    found, truth = refitted(start, x, y, weights), solved(start, x, y, weights)
    assert_close(found.weight, truth.weight, rtol=1e-3, atol=1e-4)
    assert (found.bias is None) == (truth.bias is None)
    if found.bias is not None and truth.bias is not None:
        assert_close(found.bias, truth.bias, rtol=1e-3, atol=1e-3)


@given(count=tokens, inputs=sizes, outputs=sizes, seed=seeds, has_bias=st.booleans())
def test_a_map_that_is_right_stays_as_it_is(
    *, count: int, inputs: int, outputs: int, seed: int, has_bias: bool
) -> None:
    """The very same object is returned."""
    start = Fit(drawn(seed, outputs, inputs), drawn(seed + 1, outputs) if has_bias else None)
    x = drawn(seed + 2, count, inputs)
    y = x @ start.weight.T + (0 if start.bias is None else start.bias)
    assert refitted(start, x, y) is start
    assert refitted(start, x, y, drawn(seed + 3, count).abs() + 0.1) is start


@given(tokens, sizes, sizes, seeds)
def test_a_map_that_is_off_by_a_constant_gets_that_constant(
    count: int, inputs: int, outputs: int, seed: int
) -> None:
    """The intercept is free: no prior holds it back, however few the tokens."""
    start = Fit(drawn(seed, outputs, inputs), drawn(seed + 1, outputs))
    x, shift = drawn(seed + 2, count, inputs), drawn(seed + 3, outputs) + 3
    assert start.bias is not None
    found = refitted(start, x, x @ start.weight.T + start.bias + shift)
    assert_close(found.weight, start.weight, rtol=0, atol=1e-4)
    assert_close(found.bias, start.bias + shift, rtol=1e-4, atol=1e-3)


@given(sizes, sizes, seeds)
def test_what_is_not_seen_stays_as_it_was(inputs: int, outputs: int, seed: int) -> None:
    """Columns of inputs that are always zero are left alone."""
    start = Fit(drawn(seed, outputs, inputs + 1))
    x = drawn(seed + 1, 40, inputs + 1)
    x[:, 0] = 0
    found = refitted(start, x, drawn(seed + 2, 40, outputs))
    assert_close(found.weight[:, 0], start.weight[:, 0])


def test_many_tokens_outweigh_the_prior() -> None:
    """The truth is found in spite of where the fit begins."""
    truth, start = drawn(0, 4, 6), Fit(drawn(1, 4, 6))
    x = drawn(2, 100 * PRIOR, 6)
    found = refitted(start, x, x @ truth.T)
    assert (found.weight - truth).norm() < 0.02 * (start.weight - truth).norm()


def test_inputs_that_are_nothing_change_nothing() -> None:
    """There is no energy to scale a prior by, and no factor of a matrix of zeros."""
    start = Fit(drawn(0, 3, 2))
    found = refitted(start, torch.zeros(5, 2), drawn(1, 5, 3))
    assert torch.equal(found.weight, start.weight)
    assert torch.equal(step(torch.zeros(2, 2), torch.zeros(3, 2), 5), torch.zeros(3, 2))


def a_norm(kind: str, width: int, offset: float) -> nn.Module:
    """A norm whose gains, with the offset, are around one."""
    norm = nn.LayerNorm(width) if kind == "LayerNorm" else nn.RMSNorm(width)
    with torch.no_grad():
        norm.weight.copy_(1 - offset + 0.1 * drawn(3, width))
        if isinstance(norm, nn.LayerNorm):
            norm.bias.copy_(0.1 * drawn(4, width))
    return norm


def ran(norm: nn.Module, x: Tensor, offset: float) -> Tensor:
    """What it gives, as a family with that offset runs it."""
    weight: Tensor = norm.get_parameter("weight").detach()
    bare = a_norm("LayerNorm" if isinstance(norm, nn.LayerNorm) else "RMSNorm", len(weight), 0)
    with torch.no_grad():
        bare.get_parameter("weight").fill_(1)
        bias = torch.zeros(len(weight))
        if isinstance(norm, nn.LayerNorm) and isinstance(bare, nn.LayerNorm):
            bare.bias.zero_()
            bias = norm.bias.detach()
        found: Tensor = bare(x) * (weight + offset) + bias
    return found


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_gains_are_the_least_squares_of_each_channel(kind: str, offset: float) -> None:
    """Drawn towards what they were; the bias, where there is one, is free."""
    x, wanted = drawn(0, 50, 6), drawn(1, 50, 6) + 0.3
    norm = a_norm(kind, 6, offset)
    gave = ran(norm, x, offset)
    with torch.no_grad():
        gains_refitted(norm, gave, wanted, offset)
    again, free = ran(norm, x, offset), kind == "LayerNorm"
    for channel in range(6):
        mine, theirs = gave[:, channel].double(), wanted[:, channel].double()
        if free:
            mine, theirs = mine - mine.mean(), theirs - theirs.mean()
        prior = mine.square().sum() * PRIOR / 6 / 50
        factor = (mine @ theirs + prior) / (mine @ mine + prior)
        moved = again[:, channel] - again[:, channel].mean() if free else again[:, channel]
        assert_close(moved, (factor * mine).float(), rtol=1e-3, atol=1e-4)
    if free:
        assert_close(again.mean(0), wanted.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm"])
def test_gains_that_are_right_stay(kind: str) -> None:
    """A norm that gives what it should is left as it is, to rounding."""
    norm, x = a_norm(kind, 6, 1.0), drawn(0, 50, 6)
    before = {name: values.clone() for name, values in norm.state_dict().items()}
    with torch.no_grad():
        gains_refitted(norm, ran(norm, x, 1.0), ran(norm, x, 1.0), 1.0)
    for name, values in norm.state_dict().items():
        assert_close(values, before[name], rtol=1e-5, atol=1e-6)
