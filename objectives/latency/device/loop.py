"""Call models alternately and read the clocks, until a plan's stopping rules hold."""

from __future__ import annotations

import gc
import math
import resource
import time
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Call = Callable[[], "Sample"]
    Round = tuple["Sample", ...]
    Figure = Callable[["Sample"], float]


class Sample(NamedTuple):
    """One call of one model.

    Attributes:
        wall_ms: Wall time.
        cpu_ms: Processor time over all threads.
        preemptions: Involuntary context switches during the call (`ru_nivcsw`).
        prefill_wall_ms: The prompt's part of `wall_ms`.
        prefill_cpu_ms: The prompt's part of `cpu_ms`.
    """

    wall_ms: float
    cpu_ms: float
    preemptions: int
    prefill_wall_ms: float
    prefill_cpu_ms: float


class Clocks(NamedTuple):
    """The readings of the clocks at one moment."""

    wall_ns: int
    cpu_ns: int
    preemptions: int

    @classmethod
    def now(cls) -> Clocks:
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return cls(time.perf_counter_ns(), time.process_time_ns(), preempted)


def sample_of(start: Clocks, prefilled: Clocks, end: Clocks) -> Sample:
    """Return the sample of a call from the readings at its start, after its prompt, at its end."""
    # digits below 0.1 microseconds are noise
    return Sample(
        wall_ms=round((end.wall_ns - start.wall_ns) / 1e6, 4),
        cpu_ms=round((end.cpu_ns - start.cpu_ns) / 1e6, 4),
        preemptions=end.preemptions - start.preemptions,
        prefill_wall_ms=round((prefilled.wall_ns - start.wall_ns) / 1e6, 4),
        prefill_cpu_ms=round((prefilled.cpu_ns - start.cpu_ns) / 1e6, 4),
    )


def timed(
    brief: Sequence[Call], calls: Sequence[Call], plan: Any, start_s: float
) -> tuple[tuple[float, ...], tuple[Round, ...]]:
    """Warm up, then take rounds until the plan's stopping rules hold.

    Args:
        brief: A short warm-up call of each model.
        calls: The timed call of each model.
        plan: A `Plan`, or an object with its attributes.
        start_s: The process's start, by `time.perf_counter`.

    Returns:
        The wall time in ms of each model's very first prompt, and rounds of one sample per model.
    """
    # no garbage collection in the middle of a call
    gc.freeze()
    gc.disable()
    cold_ms = _warm_up(brief, plan)
    return cold_ms, take_rounds(calls, plan, start_s)


def _warm_up(calls: Sequence[Call], plan: Any) -> tuple[float, ...]:
    start_s, rounds = time.perf_counter(), 1
    cold_ms = tuple([call().prefill_wall_ms for call in calls])
    while True:
        spent_s = time.perf_counter() - start_s
        warm = rounds >= plan.warm_up_rounds and spent_s >= plan.warm_up_s
        if warm or spent_s >= 2 * plan.warm_up_s:
            return cold_ms
        for call in calls:
            call()
        rounds += 1


def take_rounds(calls: Sequence[Call], plan: Any, start_s: float) -> tuple[Round, ...]:
    """Take rounds until the plan's stopping rules hold; see `timed`."""
    rounds: list[Round] = []
    first_s = time.perf_counter()
    while True:
        # the order alternates: the second model inherits the processor cache from the first
        step = -1 if len(rounds) % 2 else 1
        row = [call() for call in calls[::step]]
        rounds.append(tuple(row[::step]))
        now_s = time.perf_counter()
        if enough(rounds, now_s - first_s, now_s - start_s, plan):
            return tuple(rounds)


def enough(rounds: Sequence[Round], pairs_s: float, process_s: float, plan: Any) -> bool:
    """Return whether the plan's stopping rules hold.

    Args:
        rounds: The rounds so far.
        pairs_s: Seconds since the first round began.
        process_s: Seconds since the process began, with building and warm-up.
        plan: The plan.
    """
    count = len(rounds)
    if plan.sustained_s:
        return bool(pairs_s >= plan.sustained_s)
    if count >= plan.most_pairs:
        return True
    if count >= plan.fewest_pairs and process_s + pairs_s / count > plan.process_s:
        return True
    if count % plan.check_every or count < plan.least_pairs:
        return False
    narrow = count >= plan.usual_pairs and half_width(ratios(rounds)) < plan.half_width
    return bool(narrow or pairs_s >= plan.pairs_s)


def wall_ms(sample: Sample) -> float:
    """Return the wall time of a call."""
    return sample.wall_ms


def ratios(rounds: Sequence[Round], figure: Figure = wall_ms) -> list[float]:
    """Return the candidate-to-reference ratio of each pair, or the values of a reference alone."""
    return [figure(row[-1]) / (figure(row[0]) if len(row) > 1 else 1.0) for row in rounds]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the median's 95 % confidence interval by order statistics (normal approximation)."""
    ordered, count = sorted(values), len(values)
    k = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return ordered[k], ordered[count - 1 - k]


def half_width(values: Sequence[float]) -> float:
    """Return the half-width of the median's 95 % confidence interval, relative to the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / median(values)
