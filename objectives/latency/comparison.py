"""Timing models side by side on a target, as often as the plan asks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from protege.objectives.latency.estimator import Grade, another_process
from protege.objectives.latency.models import Model, generates, positions
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.target import Target
from protege.objectives.latency.timing import Part, Timing
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Compared:
    """One model's figures from a comparison, all on the reference's scale.

    Attributes:
        latency_ms: Milliseconds a call.
        spread_ms: Standard error of `latency_ms`; the reference's own is 0, as all else is
            measured against it.
        ratio: Over the reference; the reference's own is 1.
        grade: How far other processes got in the way.
        parts_ms: ``prefill`` and ``per_token``, where tokens were generated.
    """

    latency_ms: float
    spread_ms: float
    ratio: float
    grade: Grade
    parts_ms: dict[Part, float]


def compare(
    models: Sequence[Model], workload: Workload, target: Target, plan: Plan | None = None
) -> list[Compared]:
    """Time models against the first of them, each beside it; one result a model, in their order.

    Raises:
        BadInput: When there are fewer than two models, or one cannot generate the tokens asked for.
        Unmeasured: When a model cannot run on the target.
    """
    if len(models) < 2:
        raise BadInput(f"a comparison needs two models or more, not {len(models)}")
    reference, *others = models
    timings = [timed((reference, other), workload, target, plan or Plan()) for other in others]
    parts = parts_of(workload)
    scale_ms = {part: median(each.reference_ms(part) for each in timings) for part in parts}
    worst = max(timing.grade for timing in timings)
    first = Compared(scale_ms["total"], 0.0, 1.0, worst, _without_total(scale_ms))
    return [first, *(_compared(timing, scale_ms) for timing in timings)]


def timed(models: Sequence[Model], workload: Workload, target: Target, plan: Plan) -> Timing:
    """Time a reference, and a candidate if there is one; again later, if noise spoilt it.

    Raises:
        BadInput: When a model cannot generate the tokens asked for.
        Unmeasured: When a model cannot run on the target.
    """
    for model in models:
        if workload.new_tokens and not generates(model):
            raise BadInput(
                f"{model.model_class} generates no tokens: new_tokens must be 0,"
                f" not {workload.new_tokens}"
            )
        bound, asked = positions(model), workload.prompt_tokens + workload.new_tokens
        if bound is not None and asked > bound:
            raise BadInput(
                f"{model.model_class} has positions for {bound} tokens: prompt_tokens + new_tokens"
                f" must be at most that, not {asked}"
            )
    timing = _timed_once(models, workload, target, plan)
    for pause_s in plan.back_off_s:
        if timing.grade is not Grade.UNRELIABLE:
            break
        time.sleep(pause_s)
        timing = _timed_once(models, workload, target, plan)
    return timing


def parts_of(workload: Workload) -> tuple[Part, ...]:
    """The parts of a call that have figures of their own."""
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
    latency_ms = figures_ms["total"]
    spread_ms = timing.spread * latency_ms
    return Compared(latency_ms, spread_ms, timing.ratio(), timing.grade, _without_total(figures_ms))


def _without_total(figures: dict[Part, float]) -> dict[Part, float]:
    return {part: figure for part, figure in figures.items() if part != "total"}
