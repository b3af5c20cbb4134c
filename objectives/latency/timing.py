"""Figures of models timed by turns, read from the raw traces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from statistics import median
from typing import Literal

from protege.objectives.latency.device.loop import Sample, ratios
from protege.objectives.latency.estimator import Grade, combine, grade, process_value
from protege.objectives.latency.job import Trace

Part = Literal["total", "prefill", "per_token"]


@dataclass(frozen=True)
class Timing:
    """What the processes say of a reference, and of a candidate where there was one.

    Attributes:
        traces: One for each process.
        threads: Threads that a model had.
        new_tokens: Tokens that a call generated.
    """

    traces: tuple[Trace, ...]
    threads: int
    new_tokens: int

    @cached_property
    def grade(self) -> Grade:
        """How far other processes got in the way."""
        return grade(self.traces, self.threads)

    @property
    def on_cpu(self) -> bool:
        """Whether processor time is read, as the clock on the wall was spoilt."""
        return self.grade is Grade.C

    def process_ratios(self, part: Part = "total") -> list[float]:
        """Candidate over reference, process by process; milliseconds of a reference alone."""
        read = self._figure(part)
        return [process_value(trace, read, on_cpu=self.on_cpu) for trace in self.traces]

    def ratio(self, part: Part = "total") -> float:
        """Candidate over reference."""
        return combine(self.process_ratios(part))[0]

    @property
    def spread(self) -> float:
        """Standard error of the ratio (of the milliseconds of a reference alone), relative."""
        return combine(self.process_ratios())[1]

    def reference_ms(self, part: Part = "total") -> float:
        """Milliseconds of the reference in these very processes."""
        read = self._figure(part)
        return median(median(read(row[0]) for row in trace.rounds) for trace in self.traces)

    @property
    def cold_ms(self) -> float:
        """The last model's first forward of the prompt in a fresh process, on the wall."""
        return median(trace.cold_ms[-1] for trace in self.traces)

    @property
    def samples(self) -> tuple[float, ...]:
        """The ratio of every pair; milliseconds of every call of a reference alone."""
        return tuple(chain(*(ratios(trace.rounds, self._figure("total")) for trace in self.traces)))

    def _figure(self, part: Part) -> Callable[[Sample], float]:
        def total(sample: Sample) -> float:
            return sample.cpu_ms if self.on_cpu else sample.wall_ms

        def prefill(sample: Sample) -> float:
            return sample.prefill_cpu_ms if self.on_cpu else sample.prefill_wall_ms

        def per_token(sample: Sample) -> float:
            return (total(sample) - prefill(sample)) / self.new_tokens

        return {"total": total, "prefill": prefill, "per_token": per_token}[part]
