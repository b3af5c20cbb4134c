"""Estimate a latency from raw traces, robust to stalls and drift.

Two models are timed alternately and the estimate is the median ratio over pairs of calls, because
what slows one model of a pair slows the other. On a shared 2-core machine it varied 8-10 times less
between sessions than the mean of a hundred consecutive calls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import chain
from operator import attrgetter
from statistics import fmean, median
from typing import Literal, NamedTuple

from protege.objectives.latency.device.environment import throttled
from protege.objectives.latency.device.loop import Sample, ratios
from protege.objectives.latency.job import Trace
from protege.objectives.latency.workload import SAMPLES, Plan

Figure = Callable[[Sample], float]
Part = Literal["total", "prefill", "per_token"]

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


def process_value(trace: Trace, figure: Figure, *, on_cpu: bool) -> float:
    """Return one process's ratio, or milliseconds of a reference alone."""
    if not on_cpu:
        return median(ratios(trace.rounds, figure))
    # processor time does not stall with the machine, so pairing has no advantage
    last = median(figure(row[-1]) for row in trace.rounds)
    pairs = len(trace.rounds[0]) > 1
    return last / median(figure(row[0]) for row in trace.rounds) if pairs else last


def combine(values: Sequence[float]) -> Combined:
    """Combine the values of several processes."""
    value = median(values)
    deviation = MAD_TO_DEVIATION * median(abs(each - value) for each in values) / value
    return Combined(value, deviation, max(deviation, LEAST_SPREAD))


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


@dataclass(frozen=True)
class Timing:
    """The traces of a reference, and of a candidate if there is one.

    Attributes:
        traces: One per process.
        threads: Threads that a model used.
        new_tokens: Tokens generated per call.
    """

    traces: tuple[Trace, ...]
    threads: int
    new_tokens: int

    @cached_property
    def grade(self) -> Grade:
        """How far other processes disturbed the calls."""
        return grade(self.traces, self.threads)

    @property
    def contaminated(self) -> float:
        """The share of contaminated calls, 0 to 1."""
        return contaminated_share(self.traces)

    @property
    def on_cpu(self) -> bool:
        """Whether processor time replaces wall time."""
        return self.grade is Grade.C

    def process_ratios(self, part: Part = "total") -> list[float]:
        """Return the ratio to the reference per process; milliseconds of a reference alone."""
        read = self._figure(part)
        return [process_value(trace, read, on_cpu=self.on_cpu) for trace in self.traces]

    def ratio(self, part: Part = "total") -> float:
        """Return the candidate's time relative to the reference."""
        return combine(self.process_ratios(part)).value

    def tail(self, percentile: int) -> float:
        """Return a percentile of the last model's calls over the reference's median.

        Each process is normalised by its own median, so that drift between processes is no tail.
        """
        figure, shares = self._figure("total"), list[float]()
        for trace in self.traces:
            middle = median(figure(row[0]) for row in trace.rounds)
            shares += [figure(row[-1]) / middle for row in trace.rounds]
        return sorted(shares)[math.ceil(percentile / 100 * len(shares)) - 1]

    def tails_ms(self, reference_ms: float) -> dict[int, float]:
        """Return the percentiles above 50 with enough calls, in ms; empty for processor time.

        Args:
            reference_ms: The reference's latency, which sets the scale.
        """
        calls = sum(len(trace.rounds) for trace in self.traces)
        able = [one for one, needed in SAMPLES.items() if one > 50 and calls >= needed]
        return {one: self.tail(one) * reference_ms for one in able} if not self.on_cpu else {}

    @property
    def alone(self) -> "Timing":
        """The timing with the reference's calls only."""
        traces = [
            replace(t, cold_ms=t.cold_ms[:1], rounds=tuple(row[:1] for row in t.rounds))
            for t in self.traces
        ]
        return replace(self, traces=tuple(traces))

    @cached_property
    def throttled(self) -> str:
        """Why the device was throttled; empty if it reports no throttling."""
        seen = (trace.environment for trace in self.traces if trace.environment)
        return next(filter(None, (throttled(one["before"], one["after"]) for one in seen)), "")

    @property
    def combined(self) -> Combined:
        """The ratio, or the milliseconds of a reference alone, with its error."""
        return combine(self.process_ratios())

    def reference_ms(self, part: Part = "total") -> float:
        """Return the milliseconds of the reference in these processes."""
        read = self._figure(part)
        return median(median(read(row[0]) for row in trace.rounds) for trace in self.traces)

    def drift(self, reference: "Timing") -> float:
        """Return the relative increase of the reference's time over another timing.

        If other processes disturbed a single-threaded model, processor time is compared, so that
        their load is not taken for drift of the device.
        """
        interrupted = max(self.grade, reference.grade) > Grade.A
        if interrupted and self.threads == 1:
            return _reference_cpu_ms(self.traces) / _reference_cpu_ms(reference.traces) - 1
        return self.reference_ms() / reference.reference_ms() - 1

    @property
    def cold_ms(self) -> float:
        """Wall time in ms of the last model's first forward pass in a fresh process."""
        return median(trace.cold_ms[-1] for trace in self.traces)

    @property
    def samples(self) -> tuple[float, ...]:
        """The ratio of every pair, or the milliseconds of every call of a reference alone."""
        return tuple(chain(*(ratios(trace.rounds, self._figure("total")) for trace in self.traces)))

    def _figure(self, part: Part) -> Figure:
        clock = "cpu_ms" if self.on_cpu else "wall_ms"
        total: Figure = attrgetter(clock)
        prefill: Figure = attrgetter(f"prefill_{clock}")

        def per_token(sample: Sample) -> float:
            return (total(sample) - prefill(sample)) / self.new_tokens

        return {"total": total, "prefill": prefill, "per_token": per_token}[part]


def _reference_cpu_ms(traces: Sequence[Trace]) -> float:
    return median(median(row[0].cpu_ms for row in trace.rounds) for trace in traces)
