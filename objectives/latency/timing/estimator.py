"""Estimate a latency from raw samples, by pure functions robust to stalls and drift.

Two models are timed alternately and the estimate is the median ratio over pairs of calls, because
what slows one model of a pair slows the other. On a shared 2-core machine it varied 8-10 times less
between sessions than the mean of a hundred consecutive calls.
"""

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import chain
from statistics import fmean, median
from typing import NamedTuple

from protege.objectives.latency.device.loop import Sample, ratios
from protege.objectives.latency.job import Round, Trace
from protege.objectives.latency.plan import Plan

Figure = Callable[[Sample], float]

# The floor of the relative standard error. Two or three processes often agree by chance: without
# the floor 83-93 % of repeated measurements differed by less than 1.96 combined standard errors;
# with it 95-96 % did, as they should. Eight encoders in twelve processes each, on two shared cores:
# python -m studies.benchmarks.latency --only repeatability
LEAST_SPREAD = 0.015
ERROR_FLOOR = "error_floor"
"""The detail of a measurement that holds the floor if the standard error is the floor."""

# Standard deviation over the MAD of a normal distribution.
MAD_TO_DEVIATION = 1.4826
# A call that shares its core is preempted every few milliseconds. Rarer preemptions, which calls of
# 1.5 s always have, took 1 % of their time.
QUIET_MS_PER_PREEMPTION = 20.0


DRIFTED, MOVED = 0.10, 0.25
"""Relative changes of the reference's time since its first measurement. Slower by more than the
first: the measurement is repeated after a pause. Off by more than the second in either direction:
the reference is timed again. The grade is at best B beyond the first and C beyond the second."""


class Grade(StrEnum):
    """How far to trust a latency, given other processes and drift of the device."""

    A = "A"  # under 20 % of the samples are contaminated, drift of at most 10 %
    B = "B"  # under 60 %, drift of at most 25 %, or the device was throttled
    C = "C"  # more of either: wall time says little about the model
    UNRELIABLE = "unreliable"  # 60 % or more, and processor time cannot replace wall time

    @property
    def meaning(self) -> str:
        """What disturbed a latency of this grade, in words; empty for the best grade."""
        return _MEANINGS[self]

    def lowered(self, drift: float, throttled: str = "") -> "Grade":
        """Return the grade after accounting for drift and throttling.

        Args:
            drift: Relative change of the reference's time; negative if it was faster.
            throttled: Why the device was throttled; empty if it was not.
        """
        if abs(drift) > MOVED:
            return max(self, Grade.C)
        return max(self, Grade.B) if abs(drift) > DRIFTED or throttled else self


_MEANINGS = {
    Grade.A: "",
    Grade.B: "somewhat disturbed: other work, or the device 10% to 25% off its first speed",
    Grade.C: "badly disturbed: other work, or the device over 25% off its first speed",
    Grade.UNRELIABLE: "spoilt by other work; measure again on a quiet device",
}


class Combined(NamedTuple):
    """An estimate combined from several processes.

    Attributes:
        value: The median over processes.
        deviation: The relative deviation between processes; 0 for a single process.
        spread: The reported relative standard error: the deviation, but at least `LEAST_SPREAD`.
    """

    value: float
    deviation: float
    spread: float

    @property
    def is_floor(self) -> bool:
        """Whether the standard error is the floor."""
        return self.deviation < LEAST_SPREAD


def ratio_of_medians(rounds: Sequence[Round], figure: Figure) -> float:
    """Return the candidate's median over the reference's, or the median of a reference alone.

    Used for processor time, which does not stall with the machine, so pairing has no advantage.
    """
    last = median(figure(row[-1]) for row in rounds)
    return last / median(figure(row[0]) for row in rounds) if len(rounds[0]) > 1 else last


def process_value(trace: Trace, figure: Figure, *, on_cpu: bool) -> float:
    """Return one process's ratio, or milliseconds of a reference alone."""
    return (
        ratio_of_medians(trace.rounds, figure) if on_cpu else median(ratios(trace.rounds, figure))
    )


def combine(values: Sequence[float]) -> Combined:
    """Combine the values of several processes."""
    value = median(values)
    deviation = MAD_TO_DEVIATION * median(abs(each - value) for each in values) / value
    return Combined(value, deviation, max(deviation, LEAST_SPREAD))


def tail(traces: Sequence[Trace], figure: Figure, percentile: int) -> float:
    """Return a percentile of the last model's calls over the reference's median.

    Each process is normalised by its own median, so that drift between processes is no tail.
    """
    shares: list[float] = []
    for trace in traces:
        middle = median(figure(row[0]) for row in trace.rounds)
        shares += [figure(row[-1]) / middle for row in trace.rounds]
    return sorted(shares)[math.ceil(percentile / 100 * len(shares)) - 1]


def another_process(values: Sequence[float], plan: Plan) -> bool:
    """Return whether to start another process: between 2 and 5, depending on their agreement."""
    if len(values) < 2:
        return True
    apart = max(values) / min(values) - 1
    if len(values) == 2:
        return apart > plan.agree_within
    return len(values) < 5 and apart > plan.differ_beyond


def contaminated(sample: Sample) -> bool:
    """Return whether a call was preempted more often than on a quiet machine."""
    return sample.preemptions > sample.wall_ms / QUIET_MS_PER_PREEMPTION


def contaminated_share(traces: Sequence[Trace]) -> float:
    """Return the share of contaminated samples, 0 to 1, over all models and processes."""
    return fmean(contaminated(each) for each in chain(*(trace.samples for trace in traces)))


def grade(traces: Sequence[Trace], threads: int) -> Grade:
    """Return how far to trust wall time; see `Grade`.

    Processor time can replace it for one thread only: several threads spin while they wait for each
    other, which counts as work.
    """
    share = contaminated_share(traces)
    if share < 0.2:
        return Grade.A
    if share < 0.6:
        return Grade.B
    return Grade.C if threads == 1 else Grade.UNRELIABLE
