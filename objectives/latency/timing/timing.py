"""Ratios, milliseconds, tails and drift of alternately timed models, from their raw traces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from statistics import median
from typing import Literal

from protege.objectives.latency.device.environment import throttled
from protege.objectives.latency.device.loop import Sample, ratios
from protege.objectives.latency.job import Round, Trace
from protege.objectives.latency.plan import SAMPLES
from protege.objectives.latency.timing.estimator import (
    Combined,
    Grade,
    combine,
    contaminated_share,
    grade,
    process_value,
    tail,
)

Part = Literal["total", "prefill", "per_token"]


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
        """Return a percentile of the last model's calls over the reference's median."""
        return tail(self.traces, self._figure("total"), percentile)

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
        traces = [replace(t, cold_ms=t.cold_ms[:1], rounds=_first(t)) for t in self.traces]
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

    def _figure(self, part: Part) -> Callable[[Sample], float]:
        def total(sample: Sample) -> float:
            return sample.cpu_ms if self.on_cpu else sample.wall_ms

        def prefill(sample: Sample) -> float:
            return sample.prefill_cpu_ms if self.on_cpu else sample.prefill_wall_ms

        def per_token(sample: Sample) -> float:
            return (total(sample) - prefill(sample)) / self.new_tokens

        return {"total": total, "prefill": prefill, "per_token": per_token}[part]


def _reference_cpu_ms(traces: Sequence[Trace]) -> float:
    return median(median(row[0].cpu_ms for row in trace.rounds) for trace in traces)


def _first(trace: Trace) -> tuple[Round, ...]:
    return tuple(row[:1] for row in trace.rounds)
