"""The latency objective: milliseconds a call of the student on the target."""

from dataclasses import asdict, dataclass, field
from typing import Any

from protege.objectives.candidate import Candidate
from protege.objectives.latency.comparison import parts_of, timed
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import described
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.target import Target
from protege.objectives.latency.timing import Part, Timing
from protege.objectives.latency.workload import Workload
from protege.objectives.objective import Cost, Direction, Measurement
from protege.spaces.blueprint import Blueprint


@dataclass(frozen=True)
class Latency:
    """How long a call takes, with random weights, measured by turns with the teacher.

    The value is the ratio to the teacher, from pairs of calls, times the teacher's own time, which
    is measured once for a study and kept. So it is steady where the machine is not, and two
    candidates of one study are always on one scale.

    Attributes:
        target: Where the model runs.
        workload: What a call is.
        limit_ms: The slowest that a student may be.
        plan: How long to measure.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit_ms: float | None = None
    plan: Plan = field(default_factory=Plan)

    @property
    def name(self) -> str:
        return "latency_ms"

    @property
    def unit(self) -> str:
        return "ms"

    @property
    def direction(self) -> Direction:
        return "minimize"

    @property
    def cost(self) -> Cost:
        return Cost.SECONDS

    @property
    def limit(self) -> float | None:
        return self.limit_ms

    def measure(self, candidate: Candidate) -> Measurement:
        """The candidate's latency; from the cache when it, or its like, was measured before.

        Raises:
            BadInput: When the workload asks an encoder for new tokens.
            Unmeasured: When the model cannot run on the target.
        """
        with candidate.stopwatch.phase("latency"):
            teacher = candidate.teacher.blueprint(candidate.teacher.architecture)
            reference = self._timing(candidate, "reference", teacher)
            if candidate.blueprint == teacher:
                return self._of_teacher(reference)
            beside = self._timing(candidate, "latency", teacher, candidate.blueprint)
            return self._of_student(beside, reference)

    def _timing(self, candidate: Candidate, kind: str, *models: Blueprint) -> Timing:
        key = {
            "models": [described(model) for model in models],
            "workload": asdict(self.workload),
            "target": self.target.description(),
        }
        record = candidate.cache.record(kind, key, lambda: self._measured(models))
        traces = tuple(Trace.of(trace) for trace in record["traces"])
        return Timing(traces, self.target.threads, self.workload.new_tokens)

    def _measured(self, models: tuple[Blueprint, ...]) -> dict[str, Any]:
        timing = timed(models, self.workload, self.target, self.plan)
        return {"traces": [trace.record() for trace in timing.traces]}

    def _of_teacher(self, reference: Timing) -> Measurement:
        value_ms = reference.reference_ms()
        parts = dict.fromkeys(parts_of(self.workload), 1.0)
        details = self._details(reference, reference, parts)
        return Measurement(value_ms, reference.spread * value_ms, (), details)

    def _of_student(self, beside: Timing, reference: Timing) -> Measurement:
        value_ms = beside.ratio() * reference.reference_ms()
        parts = {part: beside.ratio(part) for part in parts_of(self.workload)}
        details = self._details(beside, reference, parts)
        return Measurement(value_ms, beside.spread * value_ms, beside.samples, details)

    def _details(
        self, timing: Timing, reference: Timing, ratios: dict[Part, float]
    ) -> dict[str, float | str]:
        parts_ms = {
            f"{part}_ms": ratio * reference.reference_ms(part)
            for part, ratio in ratios.items()
            if part != "total"
        }
        return {
            "ratio_to_teacher": ratios["total"],
            "speedup": 1 / ratios["total"],
            "grade": str(timing.grade),
            "clock": "processor" if timing.on_cpu else "wall",
            "pairs": float(sum(len(trace.rounds) for trace in timing.traces)),
            "processes": float(len(timing.traces)),
            "cold_ms": timing.cold_ms,
            **parts_ms,
        }
