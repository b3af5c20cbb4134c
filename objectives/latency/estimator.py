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

from protege.objectives.latency.device.loop import Sample, ratios
from protege.objectives.latency.job import Round, Trace
from protege.objectives.latency.plan import Plan

Figure = Callable[[Sample], float]

# Between processes the ratio of two models varies by 1.4-1.8 % even on a quiet machine.
LEAST_SPREAD = 0.015
# The MAD of a normal distribution, times this, is its standard deviation.
MAD_TO_DEVIATION = 1.4826
# A call that shares its core is interrupted every few milliseconds. Interruptions rarer than this
# were seen to take 1 % of the time of calls of 1.5 s, which are never without any.
QUIET_MS_PER_PREEMPTION = 20.0


class Grade(StrEnum):
    """How far other processes got in the way."""

    A = "A"  # fewer than 20 % of the samples are contaminated
    B = "B"  # fewer than 60 %
    C = "C"  # more: the clock on the wall says little of the model
    UNRELIABLE = "unreliable"  # more, and processor time cannot stand in


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


def combine(values: Sequence[float]) -> tuple[float, float]:
    """The median of the processes and its relative spread, which only processes can tell."""
    value = median(values)
    deviation = MAD_TO_DEVIATION * median(abs(each - value) for each in values)
    return value, max(deviation / value, LEAST_SPREAD)


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


def seed_estimate(wall_ms: Sequence[float]) -> float:
    """The usual recipe, kept to be compared with: the mean of 100 calls after 10 to warm up.

    Args:
        wall_ms: Times of consecutive calls of one model, 110 or more.
    """
    return fmean(wall_ms[10:110])
