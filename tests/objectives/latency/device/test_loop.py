import random
from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.latency.device.loop import (
    Clocks,
    Sample,
    enough,
    half_width,
    median_interval,
    ratios,
    sample_of,
    timed,
)
from protege.objectives.latency.workload import Plan

Round = tuple[Sample, ...]

times_ms = st.floats(0.1, 1e4)


def sample(wall: float) -> Sample:
    return Sample(wall, wall, 0, wall, wall)


def rounds(walls: list[tuple[float, float]]) -> tuple[Round, ...]:
    return tuple((sample(reference), sample(candidate)) for reference, candidate in walls)


@given(st.lists(times_ms, min_size=1), st.randoms())
def test_an_interval_holds_the_median_whatever_the_order(
    values: list[float], shuffled: random.Random
) -> None:
    low, high = median_interval(values)
    assert low <= median(values) <= high
    again = list(values)
    shuffled.shuffle(again)
    assert median_interval(again) == (low, high)


def test_the_interval_of_a_hundred_values_runs_from_the_41st_to_the_60th() -> None:
    assert median_interval([float(value) for value in range(100)]) == (40.0, 59.0)
    assert half_width([float(value) for value in range(100)]) == pytest.approx(9.5 / 49.5)


def test_a_pair_is_told_by_its_ratio_and_a_reference_alone_by_its_milliseconds() -> None:
    assert ratios(rounds([(2.0, 1.0), (2.0, 3.0)])) == [0.5, 1.5]
    assert ratios([(sample(3.0),), (sample(1.0),)]) == [3.0, 1.0]


STEADY, JUMPY = [(2.0, 1.0)] * 100, [(2.0, 1.0), (1.0, 2.0)] * 50


@pytest.mark.parametrize(
    ("walls", "pairs_s", "process_s", "stops"),
    [
        (STEADY[:5], 0.1, 1.0, False),  # fewer than usual
        (STEADY[:10], 0.1, 1.0, True),  # narrow
        (STEADY[:11], 0.1, 1.0, False),  # not the moment to look
        (JUMPY[:10], 0.1, 1.0, False),  # wide
        (JUMPY[:10], 1.0, 2.0, True),  # wide, and out of seconds
        (JUMPY[:100], 0.1, 1.0, True),  # as many as there may be
        (STEADY[:5], 1.5, 2.0, True),  # slow calls: the least will do
        (STEADY[:4], 1.5, 2.0, False),  # fewer than the least
        (STEADY[:3], 9.0, 13.0, True),  # one more would pass the process's share
        (STEADY[:2], 9.0, 13.0, False),  # too few, whatever they take
    ],
)
def test_a_process_stops_when_it_has_seen_enough(
    walls: list[tuple[float, float]], pairs_s: float, process_s: float, *, stops: bool
) -> None:
    assert enough(rounds(walls), pairs_s, process_s, Plan()) is stops


def test_a_process_under_load_stops_by_its_seconds_alone() -> None:
    plan = Plan(sustained_s=60.0)
    assert not enough(rounds(STEADY * 9), 59.0, 70.0, plan)
    assert enough(rounds(STEADY[:1]), 60.0, 70.0, plan)


def test_a_sample_is_the_time_between_three_moments() -> None:
    start, prefilled, end = (
        Clocks(0, 0, 3),
        Clocks(2_000_000, 1_000_000, 3),
        Clocks(5_000_000, 4_000_000, 5),
    )
    assert sample_of(start, prefilled, end) == Sample(5.0, 4.0, 2, 2.0, 1.0)


def test_models_take_turns_after_warming_up_with_short_calls() -> None:
    said: list[str] = []

    def call(name: str) -> Callable[[], Sample]:
        def run() -> Sample:
            said.append(name)
            return sample(float(len(said)))

        return run

    plan = Plan(warm_up_s=0.0, fewest_pairs=2, most_pairs=3)
    cold_ms, seen = timed([call("a"), call("b")], [call("A"), call("B")], plan, 0.0)
    assert cold_ms == (1.0, 2.0)
    first = said.index("A")
    assert set(said[:first]) == {"a", "b"}
    assert "".join(said[first:]).startswith("ABBA"[: len(said) - first])
    assert all(len(row) == 2 for row in seen)
