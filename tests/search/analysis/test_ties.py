import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.quality.bootstrap import interval
from protege.search.analysis.ties import tied
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


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.5, math.nan])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(BadInput, match="expected a share between 0 and 1"):
        interval([0.0, 1.0], level)
    with pytest.raises(BadInput, match="expected a share between 0 and 1"):
        tied({}, level)
