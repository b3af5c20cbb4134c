"""An interval holds the true mean as often as it says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.quality.bootstrap import ends, interval
from protege.spaces import BadInput

samples = st.lists(st.floats(0, 1), min_size=2, max_size=40)


def examples(count: int = 200, seed: int = 0) -> list[float]:
    found: list[float] = np.random.default_rng(seed).random(count).tolist()
    return found


@given(samples)
def test_the_mean_is_in_its_interval_and_that_among_the_scores(values: list[float]) -> None:
    low, high = interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    low, high = interval(values, level=0.9999)
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9


@given(samples, st.sampled_from([0.5, 0.8]))
def test_a_surer_interval_is_no_narrower(values: list[float], level: float) -> None:
    (low, high), (lower, higher) = interval(values, level), interval(values, 0.95)
    assert lower <= low <= high <= higher


@pytest.mark.parametrize("count", [512, 5000])  # all draws at once, and block by block
def test_an_interval_is_as_wide_as_theory_has_it(count: int) -> None:
    values = examples(count)
    low, high = interval(values)
    expected = 2 * 1.96 * np.std(values) / math.sqrt(count)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for seed in range(200):
        low, high = interval(generator.beta(4, 2, size=60).tolist(), 0.9, seed)
        held += low <= 4 / 6 <= high
    assert 0.83 <= held / 200 <= 0.96


def test_the_same_seed_gives_the_same_interval() -> None:
    values = examples()
    assert interval(values, seed=3) == interval(values, seed=3)
    assert interval(values, seed=3) != interval(values, seed=4)


def test_equal_scores_have_no_spread() -> None:
    assert interval([0.3] * 50) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_scores_that_have_no_spread_to_tell_are_refused(values: list[float]) -> None:
    with pytest.raises(BadInput, match="expected one finite number per example"):
        interval(values)


def test_ends_leave_as_much_on_either_side() -> None:
    assert ends(0.9) == pytest.approx((0.05, 0.95))
