import random
from itertools import combinations
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.latency.device.loop import Sample, wall_ms
from protege.objectives.latency.job import Round, Trace
from protege.objectives.latency.timing.timing import (
    LEAST_SPREAD,
    Combined,
    Grade,
    another_process,
    combine,
    contaminated,
    contaminated_share,
    grade,
    process_value,
)
from protege.objectives.latency.workload import Plan

times_ms = st.floats(0.1, 1e4)
pairs = st.lists(st.tuples(times_ms, times_ms), min_size=1, max_size=60)


def sample(wall: float, cpu: float | None = None, preemptions: int = 0) -> Sample:
    own = wall if cpu is None else cpu
    return Sample(wall, own, preemptions, wall, own)


def rounds(walls: list[tuple[float, float]]) -> tuple[Round, ...]:
    return tuple((sample(reference), sample(candidate)) for reference, candidate in walls)


def trace(walls: list[tuple[float, float]]) -> Trace:
    return Trace((1.0, 1.0), rounds(walls))


def noisy(preempted: int, of: int) -> Trace:
    samples = [sample(10.0, preemptions=int(number < preempted)) for number in range(of)]
    return Trace((1.0,), tuple((each,) for each in samples))


@given(pairs, st.randoms())
def test_the_order_of_pairs_does_not_matter(
    walls: list[tuple[float, float]], shuffled: random.Random
) -> None:
    value = process_value(trace(walls), wall_ms, on_cpu=False)
    again = list(walls)
    shuffled.shuffle(again)
    assert process_value(trace(again), wall_ms, on_cpu=False) == value


@given(st.lists(times_ms, min_size=1), st.floats(0.05, 20.0))
def test_what_slows_both_models_of_a_pair_alike_does_not_show(
    walls: list[float], ratio: float
) -> None:
    drifting = [(wall, wall * ratio) for wall in walls]
    assert process_value(trace(drifting), wall_ms, on_cpu=False) == pytest.approx(ratio)


def test_stalls_of_every_third_pair_do_not_show() -> None:
    walls = [(10.0, 5.0 * (40 if number % 3 == 0 else 1)) for number in range(30)]
    assert process_value(trace(walls), wall_ms, on_cpu=False) == 0.5


def test_processor_time_is_the_ratio_of_the_medians() -> None:
    row = (sample(90.0, cpu=10.0), sample(900.0, cpu=4.0))
    value = process_value(Trace((1.0, 1.0), (row,) * 5), lambda each: each.cpu_ms, on_cpu=True)
    assert value == 0.4


def test_a_reference_alone_is_told_in_milliseconds() -> None:
    alone = tuple((sample(wall),) for wall in (3.0, 1.0, 2.0))
    assert process_value(Trace((1.0,), alone), wall_ms, on_cpu=False) == 2.0
    assert process_value(Trace((1.0,), alone), wall_ms, on_cpu=True) == 2.0


@pytest.mark.parametrize(
    ("values", "goes_on"),
    [
        ([1.0], True),
        ([1.0, 1.035], False),
        ([1.0, 1.045], True),
        ([1.0, 1.045, 1.075], False),
        ([1.0, 1.045, 1.09], True),
        ([1.0, 1.045, 1.09, 1.0], True),
        ([1.0, 1.045, 1.09, 1.0, 2.0], False),
    ],
)
def test_two_processes_do_if_they_agree_and_five_if_they_never_do(
    values: list[float], *, goes_on: bool
) -> None:
    assert another_process(values, Plan()) is goes_on


@given(st.lists(times_ms, min_size=2, max_size=5), st.randoms())
def test_processes_combine_to_their_median_with_a_spread_in_any_order(
    values: list[float], shuffled: random.Random
) -> None:
    found = combine(values)
    assert found.value == median(values)
    assert found.spread == max(found.deviation, LEAST_SPREAD)
    assert found.is_floor == (found.spread > found.deviation)
    again = list(values)
    shuffled.shuffle(again)
    assert combine(again) == found


def test_the_spread_is_the_scaled_deviation_between_processes() -> None:
    found = combine([0.9, 1.0, 1.2])
    assert tuple(found) == pytest.approx((1.0, 0.14826, 0.14826))
    assert not found.is_floor
    assert combine([1.0, 1.0, 1.0]) == Combined(1.0, 0.0, LEAST_SPREAD)
    assert combine([1.0, 1.01]).is_floor


@pytest.mark.parametrize(
    ("preempted", "threads", "expected"),
    [(0, 1, "A"), (2, 1, "B"), (5, 1, "B"), (6, 1, "C"), (5, 2, "B"), (6, 2, "unreliable")],
)
def test_grades_tell_how_far_other_processes_got_in_the_way(
    preempted: int, threads: int, expected: str
) -> None:
    traces = [noisy(preempted, of=10)]
    assert contaminated_share(traces) == preempted / 10
    assert grade(traces, threads) == Grade(expected)


@pytest.mark.parametrize(
    ("own", "drift", "throttled", "expected"),
    [
        ("A", 0.05, "", "A"),
        ("A", 0.10, "", "A"),
        ("A", 0.11, "", "B"),
        ("A", -0.2, "", "B"),
        ("A", 0.25, "", "B"),
        ("A", 0.2501, "", "C"),
        ("B", -0.5, "", "C"),
        ("C", 0.0, "", "C"),
        ("unreliable", 0.5, "", "unreliable"),
        ("A", 0.0, "hot", "B"),
        ("C", 0.0, "hot", "C"),
    ],
)
def test_a_grade_falls_with_the_drift_of_the_reference(
    own: str, drift: float, throttled: str, expected: str
) -> None:
    assert Grade(own).lowered(drift, throttled) == Grade(expected)


def test_every_grade_but_the_best_says_what_is_wrong() -> None:
    meanings = {grade: grade.meaning for grade in Grade}
    assert meanings.pop(Grade.A) == ""
    assert all(meanings.values())
    assert len(set(meanings.values())) == len(meanings)


def test_a_long_call_may_be_interrupted_now_and_then() -> None:
    assert contaminated(sample(15.0, preemptions=1))
    assert not contaminated(sample(1500.0, preemptions=75))
    assert contaminated(sample(1500.0, preemptions=76))


class Machine:
    """A machine in time: it drifts, steps between two speeds, and stalls."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.speed = self.random.uniform(0.8, 1.3)

    def call(self, true_ms: float) -> float:
        self.speed *= self.random.gauss(1.0, 0.004)
        if self.random.random() < 0.01:
            self.speed = self.random.uniform(0.8, 1.3)
        stall_ms = self.random.expovariate(1 / 30) if self.random.random() < 0.05 else 0.0
        return true_ms * self.speed * self.random.gauss(1.0, 0.01) + stall_ms


def naive(true_ms: float, seed: int) -> float:
    """The usual recipe: the mean of 100 calls after 10 to warm up."""
    machine = Machine(seed)
    return fmean([machine.call(true_ms) for _ in range(110)][10:])


def by_turns(true_ms: float, seed: int) -> float:
    machine = Machine(seed)
    walls = [(machine.call(20.0), machine.call(true_ms)) for _ in range(30)]
    return process_value(trace(walls), wall_ms, on_cpu=False)


def inversions(estimates: list[float]) -> int:
    return sum(low >= high for low, high in combinations(estimates, 2))


def test_turns_keep_the_order_that_the_usual_recipe_loses() -> None:
    truths_ms = [10.0 * 1.06**step for step in range(10)]
    usual = steady = 0
    for study in range(20):
        seeds = [study * 100 + number for number in range(len(truths_ms))]
        usual += inversions([naive(ms, seed) for ms, seed in zip(truths_ms, seeds, strict=True)])
        steady += inversions(
            [by_turns(ms, seed) for ms, seed in zip(truths_ms, seeds, strict=True)]
        )
    assert usual > 50  # of 900 pairs: the machine is as bad as it was meant to be
    assert steady < usual / 5
