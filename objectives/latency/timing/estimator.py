"""From raw samples to a figure: pure functions, all of them robust to stalls and to drift.

Timing two models by turns and taking the median of the ratios of the pairs is what survives a
machine that is never quiet: whatever slows the one slows the other. Measured on a shared 2-core
machine, it varied 8-10 times less between sessions than the mean of a hundred consecutive calls.
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

# The least standard error that is claimed, relative. Two or three processes often agree by chance:
# with their own deviation alone 83-93 % of repeated measurements differed by less than 1.96
# combined standard errors; with this floor 95-96 % did, as they should. Of eight encoders in twelve
# processes each, on two shared cores: python -m studies.benchmarks.latency --only repeatability
LEAST_SPREAD = 0.015
ERROR_FLOOR = "error_floor"
"""The detail of a measurement that names the floor, where its standard error is one."""

# The MAD of a normal distribution, times this, is its standard deviation.
MAD_TO_DEVIATION = 1.4826
# A call that shares its core is interrupted every few milliseconds. Interruptions rarer than this
# were seen to take 1 % of the time of calls of 1.5 s, which are never without any.
QUIET_MS_PER_PREEMPTION = 20.0


DRIFTED, MOVED = 0.10, 0.25
"""Relative change of the reference's own time. If it is slower than its calibration by more than
the first, the device is left to cool down and measured again; if it is off by more than the second,
either way, its own time is taken anew. Off by more than the first a figure's grade is B at best, by
more than the second C."""


class Grade(StrEnum):
    """How far to trust a latency: other processes, and drift of the device, get in its way."""

    A = "A"  # fewer than 20 % of the samples are contaminated, drift of at most 10 %
    B = "B"  # fewer than 60 %, drift of at most 25 %, or the device was throttled
    C = "C"  # more: the clock on the wall says little of the model
    UNRELIABLE = "unreliable"  # more are contaminated, and processor time cannot stand in

    @property
    def meaning(self) -> str:
        """What is wrong with a figure of this grade, in words; empty for the best grade."""
        return _MEANINGS[self]

    def lowered(self, drift: float, throttled: str = "") -> "Grade":
        """Return the grade of a figure whose reference took another time than at its calibration.

        Args:
            drift: How much longer it took, relatively; negative if it was faster.
            throttled: Why the device was slower than it can be; empty if it was not.
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
    """What several processes say of one figure.

    Attributes:
        value: The median of the processes.
        deviation: The deviation between processes, relative; 0 for a single process.
        spread: The standard error that is reported and ranked by, relative: the deviation, but
            never less than `LEAST_SPREAD`.
    """

    value: float
    deviation: float
    spread: float

    @property
    def is_floor(self) -> bool:
        """Whether the standard error is the least one that is claimed."""
        return self.deviation < LEAST_SPREAD


def ratio_of_medians(rounds: Sequence[Round], figure: Figure) -> float:
    """Candidate's median over the reference's; the reference's own where it is alone.

    For processor time, which does not stall with the machine, so that pairs gain nothing.
    """
    last = median(figure(row[-1]) for row in rounds)
    return last / median(figure(row[0]) for row in rounds) if len(rounds[0]) > 1 else last


def process_value(trace: Trace, figure: Figure, *, on_cpu: bool) -> float:
    """What one process says of a figure: a ratio, or milliseconds where the reference is alone."""
    return (
        ratio_of_medians(trace.rounds, figure) if on_cpu else median(ratios(trace.rounds, figure))
    )


def combine(values: Sequence[float]) -> Combined:
    """Combine the figures of several processes."""
    value = median(values)
    deviation = MAD_TO_DEVIATION * median(abs(each - value) for each in values) / value
    return Combined(value, deviation, max(deviation, LEAST_SPREAD))


def tail(traces: Sequence[Trace], figure: Figure, percentile: int) -> float:
    """A percentile of the last model's calls, over the reference's median in the same process.

    So drift between processes does not pass for a tail. Of a reference alone, over its own median.
    """
    shares: list[float] = []
    for trace in traces:
        middle = median(figure(row[0]) for row in trace.rounds)
        shares += [figure(row[-1]) / middle for row in trace.rounds]
    return sorted(shares)[math.ceil(percentile / 100 * len(shares)) - 1]


def another_process(values: Sequence[float], plan: Plan) -> bool:
    """Whether the processes so far differ too much to stop: 2 may do, 3 are usual, 5 the most."""
    if len(values) < 2:
        return True
    apart = max(values) / min(values) - 1
    if len(values) == 2:
        return apart > plan.agree_within
    return len(values) < 5 and apart > plan.differ_beyond


def contaminated(sample: Sample) -> bool:
    """Whether another process took the processor more often than a quiet machine would."""
    return sample.preemptions > sample.wall_ms / QUIET_MS_PER_PREEMPTION


def contaminated_share(traces: Sequence[Trace]) -> float:
    """The share of contaminated samples, 0 to 1, over all models and processes."""
    return fmean(contaminated(each) for each in chain(*(trace.samples for trace in traces)))


def grade(traces: Sequence[Trace], threads: int) -> Grade:
    """How far to trust the clock on the wall; see `Grade`.

    Processor time stands in for one thread alone: several wait for each other by spinning, which
    counts as work.
    """
    share = contaminated_share(traces)
    if share < 0.2:
        return Grade.A
    if share < 0.6:
        return Grade.B
    return Grade.C if threads == 1 else Grade.UNRELIABLE
