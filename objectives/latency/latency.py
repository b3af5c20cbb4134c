"""The latency objective: milliseconds per call of the student on the target."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from protege.objectives.candidate import Candidate
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model, SavedModel, check_fits, described
from protege.objectives.latency.predictor.model import predicted_beyond
from protege.objectives.latency.predictor.terms import Call
from protege.objectives.latency.targets.target import Target, Unmeasured
from protege.objectives.latency.timing.comparison import compare, parts_of, timed
from protege.objectives.latency.timing.timing import (
    ERROR_FLOOR,
    LEAST_SPREAD,
    MOVED,
    Grade,
    Part,
    Timing,
)
from protege.objectives.latency.workload import SAMPLES, Plan, Workload
from protege.objectives.measurement import Direction, Measurement, Prediction, Stage, name_of
from protege.spaces import Architecture, Teacher
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint


@checks_fields
@dataclass(frozen=True)
class Latency:
    """The latency of a student with random weights, its calls alternating with the teacher's.

    The value is the student-to-teacher ratio over pairs of calls, times the teacher's latency,
    which is measured once per study. So noise of the machine cancels, and all candidates of a study
    share one scale. A percentile above 50 is the student's percentile over the teacher's median in
    the same process, times the same teacher latency.

    If the device reports throttling, the measurement is repeated after a pause. If the teacher's
    time changes without it, the measurement stands: candidates are ranked by the ratio, and the
    teacher is always slower right after a training than on the idle machine of its own measurement.
    The ``grade`` falls with that drift; see `Grade`. If it is over 25 %, the teacher is measured
    again and reported as ``reference_now_ms``; the study keeps its first scale.

    The standard error is the deviation between processes, ``measured_error_ms``, but at least 1.5%
    of the value, because few processes often agree by chance; ``error_floor`` is reported if that
    floor applies.

    Attributes:
        target: Where the model runs.
        workload: The size of a call.
        limit: Maximum latency of a student in ms.
        plan: How long to measure.
        percentile: 50, 90, 95 or 99; the last three need 64, 130 and 662 calls.
        label: Distinguishes several latencies of a study: ``"pi5"`` names it ``latency_pi5_ms``.

    Raises:
        BadInput: The percentile is not supported, or the label is not an identifier.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit: float | None = None
    plan: Plan = field(default_factory=Plan)
    percentile: int = 50
    label: str = ""

    def __post_init__(self) -> None:
        target: object = self.target
        if isinstance(target, type) or not hasattr(target, "description"):
            shown = target.__name__ if isinstance(target, type) else repr(target)
            raise BadInput(f"target={shown}: expected a target, such as LocalCPU() or SSH(host)")
        workload: object = self.workload
        if not isinstance(workload, Workload):
            raise BadInput(
                f"workload={workload!r}: expected a Workload, such as "
                "Workload(batch_size=1, prompt_tokens=128)"
            )
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
    def stage(self) -> Stage:
        return Stage.SHAPE

    def check(self, teacher: Teacher) -> None:
        check_fits(teacher.blueprint(teacher.architecture), self.workload)

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure the candidate's latency, or read it from the cache.

        Raises:
            BadInput: The model cannot run the workload.
            Unmeasured: The model cannot run on the target, or noise spoilt every try.
        """
        with candidate.stopwatch.phase("latency"):
            teacher = candidate.teacher.blueprint(candidate.teacher.architecture)
            timing = reference = self._timing(candidate, "reference", teacher)
            ratios, samples = dict.fromkeys(parts_of(self.workload), 1.0), tuple[float, ...]()
            if candidate.blueprint != teacher:
                timing = self._timing(candidate, "latency", teacher, candidate.blueprint)
                ratios = {part: timing.ratio(part) for part in ratios}
                samples = timing.samples
            share = ratios["total"] if self.percentile == 50 else timing.tail(self.percentile)
            value_ms = share * reference.reference_ms()
            details = self._details(timing, reference, ratios, value_ms)
            if abs(timing.drift(reference)) > MOVED:
                again = self._timing(candidate, "reference-again", teacher)
                details["reference_now_ms"] = again.reference_ms()
            return Measurement(value_ms, timing.combined.spread * value_ms, samples, details)

    def confirm(self, own: Candidate, folder: Path) -> dict[str, float]:
        """Measure the student in a folder, its calls alternating with the teacher's.

        The ratio is multiplied by the teacher's time in the study.

        Returns:
            The latency, and ``speedup``, under the objective's name.
        """
        models: list[Model] = [own.blueprint, SavedModel.at(folder)]
        plan = self.plan.with_samples(self.percentile)
        teacher, student = compare(models, self.workload, self.target, plan)
        known = self.measure(own)  # cached: the teacher's time in the study
        share = student.over(teacher, self.percentile)
        return {self.name: share * known.value, "speedup": 1 / student.ratio}

    def predict_beyond(
        self,
        architecture: Architecture,
        known: Sequence[tuple[Mapping[str, Any], float]],
        teacher: Teacher,
    ) -> Prediction | None:
        """Predict whether an architecture exceeds the limit; see `predicted_beyond`."""
        if self.limit is None:
            return None
        return predicted_beyond(architecture, known, Call(self.workload, teacher.task), self.limit)

    def _timing(self, candidate: Candidate, kind: str, *models: Blueprint) -> Timing:
        """Time models, or read their traces from the cache; repeat once if it was throttled."""

        def measured() -> dict[str, Any]:
            timing = self._time_models(models)
            if timing.throttled:
                time.sleep(self.plan.cool_down_s)
                timing = self._time_models(models)
            return {"traces": [trace.record() for trace in timing.traces]}

        key = {
            "models": [described(model) for model in models],
            "workload": asdict(self.workload),
            "target": self.target.description(),
            "samples": SAMPLES[self.percentile],
            "sustained_s": self.plan.sustained_s,
        }
        traces = candidate.cache.record(kind, key, measured)["traces"]
        return Timing(tuple(map(Trace.of, traces)), self.target.threads, self.workload.new_tokens)

    def _time_models(self, models: tuple[Blueprint, ...]) -> Timing:
        plan = self.plan.with_samples(self.percentile)
        timing = timed(models, self.workload, self.target, plan)
        spoilt = Grade.C if self.percentile > 50 else Grade.UNRELIABLE
        if timing.grade >= spoilt:
            raise Unmeasured(
                f"{models[-1].model_class} on {self.target.label}: other processes spoilt every "
                f"try ({timing.contaminated:.0%} of the calls); end them, or measure the median of "
                "one thread, for which processor time can be used"
            )
        return timing

    def _details(
        self, timing: Timing, reference: Timing, ratios: dict[Part, float], value_ms: float
    ) -> dict[str, float | str]:
        moved, error = timing.drift(reference), timing.combined
        details: dict[str, float | str] = {
            "ratio_to_teacher": ratios["total"],
            "speedup": 1 / ratios["total"],
            "target": self.target.label,
            "grade": str(timing.grade.lowered(moved, timing.throttled)),
            "clock": "processor" if timing.on_cpu else "wall",
            "pairs": float(sum(len(trace.rounds) for trace in timing.traces)),
            "processes": float(len(timing.traces)),
            "cold_ms": timing.cold_ms,
            "reference_drift": moved,
        }
        if timing.throttled:
            details["throttled"] = timing.throttled
        if len(timing.traces) > 1:
            details["measured_error_ms"] = error.deviation * value_ms
        if error.is_floor:
            details[ERROR_FLOOR] = f"{LEAST_SPREAD:.1%}"
        for part, ratio in ratios.items():
            if part != "total":
                details[f"{part}_ms"] = ratio * reference.reference_ms(part)
        return details
