"""Time models in pairs on a target, as long as the plan asks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from protege.objectives.latency.models import Model, check_fits
from protege.objectives.latency.targets.target import Target, Unmeasured
from protege.objectives.latency.timing.timing import Grade, Part, Timing, another_process
from protege.objectives.latency.workload import Plan, Workload
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Compared:
    """One model's latency in a comparison, on the reference's scale.

    Attributes:
        latency_ms: Milliseconds per call.
        spread_ms: Standard error of `latency_ms`; 0 for the reference if there are other models.
        floor: Whether `spread_ms` is the floor, because the processes agreed better than that.
        ratio: Latency relative to the reference; 1 for the reference.
        grade: How far to trust the latency; see `Grade`.
        parts_ms: ``prefill`` and ``per_token``; empty if no tokens were generated.
        tails_ms: The percentiles above 50 for which there were enough calls.
        timing: The traces of the model and the reference, with all samples.
    """

    latency_ms: float
    spread_ms: float
    floor: bool
    ratio: float
    grade: Grade
    parts_ms: dict[Part, float]
    tails_ms: dict[int, float]
    timing: Timing

    def over(self, reference: "Compared", percentile: int) -> float:
        """Return a percentile relative to that of the reference.

        Raises:
            Unmeasured: The percentile is above 50 and there are too few calls, or other processes
                disturbed them.
        """
        if percentile == 50:
            return self.ratio
        if percentile not in self.tails_ms or percentile not in reference.tails_ms:
            raise Unmeasured(
                f"percentile {percentile} cannot be estimated: too few calls, or too disturbed "
                f"(grade {self.grade})"
            )
        return self.tails_ms[percentile] / reference.tails_ms[percentile]


def compare(
    models: Sequence[Model],
    workload: Workload,
    target: Target,
    plan: Plan | None = None,
    announce: Callable[[int], None] | None = None,
) -> list[Compared]:
    """Time each model against the first.

    Args:
        models: The first is the reference; a single model is timed alone.
        workload: The size of a call.
        target: Where to time them.
        plan: How long to measure; the default plan if None.
        announce: Called with the index of each model before it is timed.

    Returns:
        One result per model, in order.

    Raises:
        BadInput: There is no model, or a model cannot run the workload.
        Unmeasured: A model cannot run on the target.
    """
    if not models:
        raise BadInput("models=[]: expected one or more")
    reference, *others = models
    timings = []
    for number, pair in enumerate([(reference, other) for other in others] or [(reference,)]):
        if announce is not None:
            announce(number + 1 if others else 0)
        timings.append(timed(pair, workload, target, plan or Plan()))
    scale_ms = {
        part: median(each.reference_ms(part) for each in timings) for part in parts_of(workload)
    }
    alone, total_ms = timings[0].alone, scale_ms["total"]
    first = Compared(
        latency_ms=total_ms,
        spread_ms=0.0 if others else alone.combined.spread * total_ms,
        floor=not others and alone.combined.is_floor,
        ratio=1.0,
        grade=max(_grade(timing, total_ms) for timing in timings),
        parts_ms=_without_total(scale_ms),
        tails_ms=alone.tails_ms(total_ms),
        timing=alone,
    )
    return [first, *(_compared(timing, scale_ms) for timing in timings if others)]


def timed(models: Sequence[Model], workload: Workload, target: Target, plan: Plan) -> Timing:
    """Time a reference, and a candidate if there is one; repeat after a pause if noise spoilt it.

    Raises:
        BadInput: A model cannot run the workload.
        Unmeasured: A model cannot run on the target.
    """
    for model in models:
        check_fits(model, workload)
    timing = _timed_once(models, workload, target, plan)
    for pause_s in plan.back_off_s:
        if timing.grade is not Grade.UNRELIABLE:
            break
        time.sleep(pause_s)
        timing = _timed_once(models, workload, target, plan)
    return timing


def parts_of(workload: Workload) -> tuple[Part, ...]:
    """Return the parts of a call that are timed."""
    return ("total", "prefill", "per_token") if workload.new_tokens else ("total",)


def _timed_once(models: Sequence[Model], workload: Workload, target: Target, plan: Plan) -> Timing:
    start_s = time.perf_counter()
    timing = Timing((), target.threads, workload.new_tokens)
    while True:
        traces = (*timing.traces, target.trace(models, workload, plan))
        timing = Timing(traces, target.threads, workload.new_tokens)
        spent_s = time.perf_counter() - start_s
        next_would_end_s = spent_s + spent_s / len(traces)
        if len(traces) >= 2 and next_would_end_s > plan.candidate_s:
            return timing
        if not another_process(timing.process_ratios(), plan):
            return timing


def _compared(timing: Timing, scale_ms: dict[Part, float]) -> Compared:
    figures_ms = {part: timing.ratio(part) * unit_ms for part, unit_ms in scale_ms.items()}
    return Compared(
        latency_ms=figures_ms["total"],
        spread_ms=timing.combined.spread * figures_ms["total"],
        floor=timing.combined.is_floor,
        ratio=timing.ratio(),
        grade=_grade(timing, scale_ms["total"]),
        parts_ms=_without_total(figures_ms),
        tails_ms=timing.tails_ms(scale_ms["total"]),
        timing=timing,
    )


def _grade(timing: Timing, scale_ms: float) -> Grade:
    return timing.grade.lowered(timing.reference_ms() / scale_ms - 1, timing.throttled)


def _without_total(figures: dict[Part, float]) -> dict[Part, float]:
    return {part: figure for part, figure in figures.items() if part != "total"}
