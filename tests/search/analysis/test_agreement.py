import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search.analysis.agreement import Agreement, agreement, kendall, sampled, top_overlap
from protege.spaces import BadInput


@st.composite
def runs(draw: st.DrawFn, fewest: int = 2) -> tuple[list[float], list[float]]:
    """Qualities of up to twelve students in two runs, of which many are equal."""
    pair = st.tuples(st.integers(0, 8), st.integers(0, 8))
    pairs = draw(st.lists(pair, min_size=fewest, max_size=12))
    return [float(short) for short, _ in pairs], [float(long) for _, long in pairs]


def tau_by_pairs(short: Sequence[float], long: Sequence[float]) -> float:
    """Tau-b as Kendall wrote it, pair by pair."""
    pairs = list(combinations(range(len(short)), 2))
    one = [np.sign(short[i] - short[j]) for i, j in pairs]
    other = [np.sign(long[i] - long[j]) for i, j in pairs]
    untied = math.sqrt(float(np.dot(one, one) * np.dot(other, other)))
    return float(np.dot(one, other)) / untied if untied else math.nan


@given(runs())
def test_kendall_is_what_comparing_every_pair_finds(run: tuple[list[float], list[float]]) -> None:
    assert kendall(*run) == pytest.approx(tau_by_pairs(*run), nan_ok=True)


@pytest.mark.parametrize(
    ("short", "long", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 3, 2, 4], 4 / 6),  # one pair of six the other way round
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),
        ([5, 5, 5], [1, 2, 3], math.nan),
    ],
)
def test_kendall_of_orders_worked_out_by_hand(
    short: list[float], long: list[float], tau: float
) -> None:
    assert kendall(short, long) == pytest.approx(tau, nan_ok=True)


@pytest.mark.parametrize(
    ("short", "long", "k", "overlap"),
    [
        ([4, 3, 2, 1], [4, 3, 2, 1], 2, 1.0),
        ([4, 3, 2, 1], [3, 4, 1, 2], 2, 1.0),  # the order among the best does not matter
        ([4, 3, 2, 1], [4, 1, 3, 2], 2, 0.5),
        ([4, 3, 2, 1], [1, 2, 3, 4], 2, 0.0),
        ([4, 3, 3, 1], [4, 3, 2, 1], 2, 0.75),  # two share the second place
        ([7, 7, 7, 7], [4, 3, 2, 1], 1, 0.25),
    ],
)
def test_overlaps_worked_out_by_hand(
    short: list[float], long: list[float], k: int, overlap: float
) -> None:
    assert top_overlap(short, long, k) == pytest.approx(overlap)


@given(runs(), st.data(), st.randoms(use_true_random=False))
def test_overlap_is_a_share_and_the_order_of_students_does_not_change_it(
    run: tuple[list[float], list[float]], data: st.DataObject, random: np.random.Generator
) -> None:
    short, long = run
    k = data.draw(st.integers(1, len(short)))
    pairs = list(zip(short, long, strict=True))
    random.shuffle(pairs)
    overlap = top_overlap(short, long, k)
    assert 0 <= overlap <= 1 + 1e-12
    assert top_overlap([p[0] for p in pairs], [p[1] for p in pairs], k) == pytest.approx(overlap)


@given(runs(), st.data())
def test_a_run_overlaps_with_itself_and_all_are_among_all(
    run: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    short, long = run
    k = data.draw(st.integers(1, len(short)))
    assert top_overlap(short, short, k) == pytest.approx(1)
    assert top_overlap(short, long, len(short)) == pytest.approx(1)


@given(runs(), st.data())
def test_overlap_without_ties_counts_who_is_in_both(
    run: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    size = len(run[0])
    one, other = (data.draw(st.permutations(range(size))) for _ in run)
    k = data.draw(st.integers(1, size))
    best = [{i for i, value in enumerate(order) if value >= size - k} for order in (one, other)]
    expected = len(best[0] & best[1]) / k
    assert top_overlap(one, other, k) == expected


@given(runs(fewest=3), st.integers(0, 9))
def test_agreement_holds_both_figures_and_their_intervals(
    run: tuple[list[float], list[float]], seed: int
) -> None:
    found = agreement(*run, k=2, resamples=30, seed=seed)
    assert found.students == len(run[0])
    assert found.kendall == pytest.approx(kendall(*run), nan_ok=True)
    assert found.overlap == top_overlap(*run, 2)
    low, high = found.kendall_interval
    assert (math.isnan(low) and math.isnan(high)) or -1 - 1e-9 <= low <= high <= 1 + 1e-9
    assert 0 <= found.overlap_interval[0] <= found.overlap_interval[1] <= 1 + 1e-9


def test_the_same_order_agrees_whoever_is_drawn() -> None:
    found = agreement(range(8), range(8), k=3, resamples=200)
    assert found.kendall_interval == pytest.approx((1, 1))
    assert found.overlap_interval == pytest.approx((1, 1))


def test_a_run_that_tells_nobody_apart_has_no_kendall() -> None:
    found = agreement([1.0] * 6, range(6), k=2, resamples=50)
    assert math.isnan(found.kendall)
    assert all(math.isnan(end) for end in found.kendall_interval)


def noisy(students: int, seed: int, noise: float = 0.5) -> Agreement:
    generator = np.random.default_rng(seed)
    long = generator.normal(size=students)
    short = long + noise * generator.normal(size=students)
    return agreement(short, long, k=5, resamples=200, seed=seed)


def test_more_students_make_it_surer() -> None:
    few, many = (np.ptp(noisy(students, seed=1).kendall_interval) for students in (12, 120))
    assert many < few / 2


def test_intervals_hold_the_true_kendall_about_as_often_as_they_say() -> None:
    # of a normal pair with correlation r, tau is 2/pi asin r
    truth = 2 / math.pi * math.asin(1 / math.sqrt(1 + 0.5**2))
    intervals = [noisy(25, seed).kendall_interval for seed in range(40)]
    held = sum(low <= truth <= high for low, high in intervals)
    assert held / 40 >= 0.85


def test_the_same_seed_gives_the_same_agreement() -> None:
    short, long = [3.0, 1, 4, 1.5, 5, 9], [2.0, 7, 1, 8, 2.5, 9]
    one, again, other = (agreement(short, long, 2, resamples=40, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one != other


def test_three_students_are_drawn_whole() -> None:
    # only draws of all three count, so there is nothing to vary
    found = agreement([1.0, 2, 3], [1.0, 3, 2], k=1, resamples=20)
    assert found.kendall_interval == pytest.approx((1 / 3, 1 / 3))


@st.composite
def trials(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    """Up to forty trials behind a front of up to ten."""
    front, behind = draw(st.integers(0, 10)), draw(st.lists(st.integers(1, 4), max_size=30))
    ranks = draw(st.permutations([0] * front + behind))
    size = len(ranks)
    positions = draw(st.lists(st.integers(0, 9).map(float), min_size=size, max_size=size))
    return list(ranks), positions


@given(trials(), st.integers(1, 50))
def test_a_sample_has_as_many_trials_as_asked_for_or_all(
    study: tuple[list[int], list[float]], count: int
) -> None:
    ranks, positions = study
    taken = sampled(ranks, positions, count)
    assert len(set(taken)) == len(taken) == min(count, len(ranks))
    assert taken == sorted(taken)
    assert set(taken) <= set(range(len(ranks)))


@given(trials(), st.integers(1, 50))
def test_half_of_a_sample_is_of_the_front_as_far_as_there_is_one(
    study: tuple[list[int], list[float]], count: int
) -> None:
    ranks, positions = study
    front, behind = ranks.count(0), len(ranks) - ranks.count(0)
    taken = sum(ranks[i] == 0 for i in sampled(ranks, positions, count))
    half = count - count // 2
    assert taken == min(front, max(half, count - behind))


@given(trials(), st.integers(4, 50))
def test_both_ends_of_the_front_are_taken(study: tuple[list[int], list[float]], count: int) -> None:
    ranks, positions = study
    front = [positions[i] for i, rank in enumerate(ranks) if rank == 0]
    taken = [positions[i] for i in sampled(ranks, positions, count) if ranks[i] == 0]
    assert not front or {min(front), max(front)} <= set(taken)


def test_a_sample_worked_out_by_hand() -> None:
    #        along the front: 4 2 0 6 8, behind it by rank and position: 3 1 | 9 5 | 7
    ranks = [0, 1, 0, 1, 0, 2, 0, 3, 0, 2]
    positions = [3.0, 9.0, 2.0, 1.0, 1.0, 8.0, 4.0, 5.0, 5.0, 2.0]
    assert sampled(ranks, positions, 6) == [0, 3, 4, 7, 8, 9]
    assert sampled(ranks, positions, 1) == [0]
    assert sampled(ranks, positions, 10) == list(range(10))


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0]),
        ([1.0, math.nan], [1.0, 2.0]),
        ([1.0], [1.0]),
        ([], []),
        ([[1.0, 2.0]], [[1.0, 2.0]]),
    ],
)
def test_runs_of_other_students_are_refused(short: list[float], long: list[float]) -> None:
    message = "expected a finite number for each of two students or more"
    for figure in (kendall, lambda one, other: top_overlap(one, other, 1)):
        with pytest.raises(BadInput, match=message):
            figure(short, long)


@pytest.mark.parametrize("k", [0, 4, -1])
def test_more_best_than_students_are_refused(k: int) -> None:
    with pytest.raises(BadInput, match="best of 3 students: give 1 to 3"):
        top_overlap([1, 2, 3], [1, 2, 3], k)


def test_too_few_students_or_draws_are_refused() -> None:
    with pytest.raises(BadInput, match="2 students and 2000 resamples: expected 3 students"):
        agreement([1, 2], [1, 2], 1)
    with pytest.raises(BadInput, match="3 students and 0 resamples"):
        agreement([1, 2, 3], [1, 2, 3], 1, resamples=0)
    with pytest.raises(BadInput, match="level=2"):
        agreement([1, 2, 3], [1, 2, 3], 1, level=2)


def test_a_sample_of_unlike_lists_or_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="2 ranks, 1 positions, 3 to take"):
        sampled([0, 1], [1.0], 3)
    with pytest.raises(BadInput, match=r"0 to take: .*1 or more to take"):
        sampled([0], [1.0], 0)
