"""Calling models by turns and reading the clocks, until enough has been seen."""

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
        wall_ms: Time on the clock.
        cpu_ms: Time on the processor, over all threads.
        preemptions: How often the call was interrupted for another process (`ru_nivcsw`).
        prefill_wall_ms: The part of `wall_ms` that the prompt took.
        prefill_cpu_ms: The part of `cpu_ms` that the prompt took.
    """

    wall_ms: float
    cpu_ms: float
    preemptions: int
    prefill_wall_ms: float
    prefill_cpu_ms: float


class Clocks(NamedTuple):
    """What the clocks said at one moment."""

    wall_ns: int
    cpu_ns: int
    preemptions: int

    @classmethod
    def now(cls) -> Clocks:
        preempted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return cls(time.perf_counter_ns(), time.process_time_ns(), preempted)


def sample_of(start: Clocks, prefilled: Clocks, end: Clocks) -> Sample:
    """The call between two moments, with the one at which its prompt was done."""
    # the resolution of both clocks is far below a microsecond, the digits beyond are noise
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
    """Warm up, then take rounds until the plan has enough.

    Args:
        brief: Of each model a call to warm up with, as short as may be.
        calls: Of each model the call that is timed.
        plan: A `Plan`, or anything with its attributes.
        start_s: When the process began, by `time.perf_counter`.

    Returns:
        The wall time in ms of each model's very first prompt, and one sample of each model a round.
    """
    # what is alive now stays alive: a collection in the middle of a call would only walk it
    gc.freeze()
    gc.disable()
    cold_ms = _warm_up(brief, plan)
    return cold_ms, _rounds(calls, plan, start_s)


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


def _rounds(calls: Sequence[Call], plan: Any, start_s: float) -> tuple[Round, ...]:
    rounds: list[Round] = []
    first_s = time.perf_counter()
    while True:
        rounds.append(_round(calls, flipped=len(rounds) % 2 == 1))
        now_s = time.perf_counter()
        if enough(rounds, now_s - first_s, now_s - start_s, plan):
            return tuple(rounds)


def _round(calls: Sequence[Call], *, flipped: bool) -> Round:
    # whoever goes second finds the cache as the other left it, so that they go second by turns
    if not flipped:
        return tuple([call() for call in calls])
    return tuple(reversed([call() for call in reversed(calls)]))


def enough(rounds: Sequence[Round], pairs_s: float, process_s: float, plan: Any) -> bool:
    """Whether a process has measured enough.

    Args:
        rounds: The rounds so far.
        pairs_s: Seconds since the first of them began.
        process_s: Seconds since the process began, building and warming up included.
        plan: The policy.
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
    """The whole call on the clock."""
    return sample.wall_ms


def ratios(rounds: Sequence[Round], figure: Figure = wall_ms) -> list[float]:
    """Candidate over reference, pair by pair; the reference's own figures where it is alone."""
    return [figure(row[-1]) / (figure(row[0]) if len(row) > 1 else 1.0) for row in rounds]


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, from order statistics (normal approximation)."""
    ordered, count = sorted(values), len(values)
    k = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return ordered[k], ordered[count - 1 - k]


def half_width(values: Sequence[float]) -> float:
    """Half the width of the median's 95 % interval, relative to the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / median(values)
