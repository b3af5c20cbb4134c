"""The latency objective: milliseconds a call of the student on the target."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from protege.objectives.candidate import Candidate
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import described
from protege.objectives.latency.plan import SAMPLES, Plan
from protege.objectives.latency.targets.target import Target, Unmeasured
from protege.objectives.latency.timing.comparison import parts_of, timed
from protege.objectives.latency.timing.estimator import (
    DRIFTED,
    ERROR_FLOOR,
    LEAST_SPREAD,
    MOVED,
    Combined,
    Grade,
)
from protege.objectives.latency.timing.timing import Part, Timing
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Cost, Direction, Measurement, name_of
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint


@dataclass(frozen=True)
class Latency:
    """How long a call takes, with random weights, measured by turns with the teacher.

    The value is the ratio to the teacher, from pairs of calls, times the teacher's own time, which
    is measured once for a study and kept. So it is steady where the machine is not, and two
    candidates of one study are always on one scale. A percentile above 50 is that of the student's
    calls over the teacher's median in the same process, times the same time of the teacher.

    A device that is throttled, or on which the undisturbed teacher takes 10 % longer than it did,
    is left to cool down and measured again. Where it is 25 % away the teacher is timed anew: the
    scale of the study stays the first one, and ``reference_now_ms`` tells the new time beside it.
    The ``grade`` falls with that distance; see `Grade`.

    The standard error is the deviation between processes, ``measured_error_ms``, but never less
    than 1.5% of the value: few processes often agree by chance. Where that floor is the error,
    ``error_floor`` says so.

    Attributes:
        target: Where the model runs.
        workload: What a call is.
        limit: The most milliseconds that a student may take.
        plan: How long to measure.
        percentile: 50, or 90, 95 or 99, which need 64, 130 and 662 calls.
        label: Sets this latency apart from others of the study: ``"pi5"`` names it
            ``latency_pi5_ms``.

    Raises:
        BadInput: Another percentile, or a label that is no plain word.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit: float | None = None
    plan: Plan = field(default_factory=Plan)
    percentile: int = 50
    label: str = ""

    def __post_init__(self) -> None:
        if self.percentile not in SAMPLES:
            known = ", ".join(map(str, SAMPLES))
            raise BadInput(f"percentile={self.percentile!r}: expected one of {known}")
        _ = self.name  # checks the label

    @property
    def name(self) -> str:
        percentile = "" if self.percentile == 50 else f"p{self.percentile}_"
        return name_of("latency", self.label, f"{percentile}ms")

    @property
    def unit(self) -> str:
        return "ms"

    @property
    def direction(self) -> Direction:
        return "minimize"

    @property
    def cost(self) -> Cost:
        return Cost.SECONDS

    def measure(self, candidate: Candidate) -> Measurement:
        """The candidate's latency; from the cache when it, or its like, was measured before.

        Raises:
            BadInput: When the workload asks an encoder for new tokens.
            Unmeasured: When the model cannot run on the target, or noise spoilt every try.
        """
        with candidate.stopwatch.phase("latency"):
            teacher = candidate.teacher.blueprint(candidate.teacher.architecture)
            reference = self._reference(candidate, "reference", teacher)
            if candidate.blueprint == teacher:
                parts = dict.fromkeys(parts_of(self.workload), 1.0)
                return self._measurement(candidate, reference, reference, parts, ())
            beside = self._beside(candidate, teacher, reference)
            parts = {part: beside.ratio(part) for part in parts_of(self.workload)}
            return self._measurement(candidate, beside, reference, parts, beside.samples)

    def _reference(self, candidate: Candidate, kind: str, teacher: Blueprint) -> Timing:
        """The teacher's own time: once for a study, and once more where the device is another."""
        return self._kept(candidate, kind, (teacher,), lambda: self._timed((teacher,)))

    def _beside(self, candidate: Candidate, teacher: Blueprint, reference: Timing) -> Timing:
        """The candidate by turns with the teacher, on a device as it was when the study began."""
        models = (teacher, candidate.blueprint)

        def measured() -> Timing:
            timing = self._timed(models)
            if timing.throttled or drift(timing, reference) > DRIFTED:
                time.sleep(self.plan.cool_down_s)
                timing = self._timed(models)
            return timing

        return self._kept(candidate, "latency", models, measured)

    def _timed(self, models: tuple[Blueprint, ...]) -> Timing:
        plan = self.plan.with_samples(self.percentile)
        timing = timed(models, self.workload, self.target, plan)
        spoilt = Grade.C if self.percentile > 50 else Grade.UNRELIABLE
        if timing.grade >= spoilt:
            raise Unmeasured(
                f"{models[-1].model_class} on {self.target.label}: other processes spoilt every "
                f"try ({timing.contaminated:.0%} of the calls); quiet the machine, or measure the "
                "median of one thread, which processor time can stand in for"
            )
        return timing

    def _kept(
        self, candidate: Candidate, kind: str, models: tuple[Blueprint, ...], measure: Any
    ) -> Timing:
        key = {
            "models": [described(model) for model in models],
            "workload": asdict(self.workload),
            "target": self.target.description(),
            "samples": SAMPLES[self.percentile],
            "sustained_s": self.plan.sustained_s,
        }
        record = candidate.cache.record(
            kind, key, lambda: {"traces": [one.record() for one in measure().traces]}
        )
        traces = tuple(Trace.of(trace) for trace in record["traces"])
        return Timing(traces, self.target.threads, self.workload.new_tokens)

    def _measurement(
        self,
        candidate: Candidate,
        timing: Timing,
        reference: Timing,
        ratios: dict[Part, float],
        samples: tuple[float, ...],
    ) -> Measurement:
        share = ratios["total"] if self.percentile == 50 else timing.tail(self.percentile)
        value_ms = share * reference.reference_ms()
        error = timing.combined
        details = {**self._details(timing, reference, ratios), **_error(error, value_ms, timing)}
        if abs(drift(timing, reference)) > MOVED:
            teacher = candidate.teacher.blueprint(candidate.teacher.architecture)
            again = self._reference(candidate, "reference-again", teacher)
            details["reference_now_ms"] = again.reference_ms()
        return Measurement(value_ms, error.spread * value_ms, samples, details)

    def _details(
        self, timing: Timing, reference: Timing, ratios: dict[Part, float]
    ) -> dict[str, float | str]:
        parts_ms = {
            f"{part}_ms": ratio * reference.reference_ms(part)
            for part, ratio in ratios.items()
            if part != "total"
        }
        moved = timing.drift(reference)
        return {
            "ratio_to_teacher": ratios["total"],
            "speedup": 1 / ratios["total"],
            "target": self.target.label,
            "grade": str(timing.grade.lowered(moved, timing.throttled)),
            "clock": "processor" if timing.on_cpu else "wall",
            "pairs": float(sum(len(trace.rounds) for trace in timing.traces)),
            "processes": float(len(timing.traces)),
            "cold_ms": timing.cold_ms,
            "reference_drift": moved,
            **({"throttled": timing.throttled} if timing.throttled else {}),
            **parts_ms,
        }


def _error(error: Combined, value_ms: float, timing: Timing) -> dict[str, float | str]:
    """The error as it was measured, apart from the floor, and the floor where it is the error."""
    several = len(timing.traces) > 1
    measured = {"measured_error_ms": error.deviation * value_ms} if several else {}
    return {**measured, **({ERROR_FLOOR: f"{LEAST_SPREAD:.1%}"} if error.is_floor else {})}


def drift(timing: Timing, reference: Timing) -> float:
    """How much longer the reference took beside a candidate than alone, relatively.

    Told where nothing else ran on the device: a busy machine slows both models of a pair alike,
    which their ratio does not show, nor is it a matter of cooling down.
    """
    if max(timing.grade, reference.grade) > Grade.A:
        return 0.0
    return timing.reference_ms() / reference.reference_ms() - 1
