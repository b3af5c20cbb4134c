import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search.ties import ends, interval, tied
from protege.spaces import BadInput

scores = st.floats(0, 1)
samples = st.lists(scores, min_size=2, max_size=40)


@st.composite
def studies(draw: st.DrawFn) -> dict[int, list[float]]:
    """Up to six trials, of which some were judged on other examples than others."""
    numbers = draw(st.lists(st.integers(0, 99), max_size=6, unique=True))
    size = st.sampled_from([0, 1, 5, 12])
    return {number: draw(lists_of(draw(size))) for number in numbers}


def lists_of(size: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.integers(0, 3).map(float), min_size=size, max_size=size)


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


@given(studies())
def test_ties_are_mutual_and_of_others(study: dict[int, list[float]]) -> None:
    found = tied(study)
    assert set(found) == set(study)
    for number, others in found.items():
        assert number not in others
        assert others == sorted(others)
        assert all(number in found[other] for other in others)


@given(studies())
def test_only_what_was_judged_on_as_many_examples_is_tied(study: dict[int, list[float]]) -> None:
    for number, others in tied(study).items():
        assert all(len(study[other]) == len(study[number]) > 1 for other in others)


@given(studies())
def test_the_order_of_trials_changes_nothing(study: dict[int, list[float]]) -> None:
    assert tied(dict(reversed(study.items()))) == tied(study)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), st.integers(2, 6))
def test_the_same_scores_are_tied(values: list[float], candidates: int) -> None:
    found = tied(dict.fromkeys(range(candidates), values))
    assert all(len(others) == candidates - 1 for others in found.values())


@given(samples, st.floats(1e-6, 1))
def test_what_is_better_by_as_much_on_every_example_is_not_tied(
    values: list[float], shift: float
) -> None:
    assert tied({0: values, 1: [value + shift for value in values]}) == {0: [], 1: []}


def test_pairing_tells_apart_what_intervals_alone_cannot() -> None:
    values = examples()
    better = [value + 0.001 for value in values]
    assert interval(better)[0] < interval(values)[0] + 0.01 < interval(values)[1]
    assert tied({4: values, 7: better}) == {4: [], 7: []}


def test_what_wins_as_often_as_it_loses_is_tied() -> None:
    one, noise = np.array(examples()), np.array(examples(seed=1)) - 0.5
    found = tied({2: one.tolist(), 5: (one + noise - noise.mean()).tolist()})
    assert found == {2: [5], 5: [2]}


def test_a_tie_is_not_passed_on() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(3, 400))
    noise -= noise.mean(axis=1, keepdims=True)
    low, middle, high = (noise[i] + 0.1 * i for i in range(3))
    found = tied({0: low.tolist(), 1: middle.tolist(), 2: high.tolist()})
    assert found == {0: [1], 1: [0, 2], 2: [1]}


def test_equal_candidates_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(5)
    study = {number: generator.normal(size=150).tolist() for number in range(30)}
    pairs = sum(len(others) for others in tied(study).values()) / (30 * 29)
    assert 0.9 <= pairs < 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_ties_with_none(value: float) -> None:
    assert tied({0: [1.0, value], 1: [1.0, value], 2: [1.0, 1.0], 3: [1.0, 1.0]}) == {
        0: [],
        1: [],
        2: [3],
        3: [2],
    }


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [math.inf, 0.0]])
def test_scores_that_have_no_spread_to_tell_are_refused(values: list[float]) -> None:
    with pytest.raises(BadInput, match="expected one finite number an example"):
        interval(values)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, math.nan])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(BadInput, match="expected a share between 0 and 1"):
        interval([0.0, 1.0], level)
    with pytest.raises(BadInput, match="expected a share between 0 and 1"):
        tied({}, level)


def test_ends_leave_as_much_on_either_side() -> None:
    assert ends(0.9) == pytest.approx((0.05, 0.95))
