"""Advice on the result of a study, in sentences: what to widen, what to expect, what to plan."""

from collections.abc import Iterable, Iterator, Mapping
from math import ceil, floor
from typing import Any

from protege.objectives.latency.predictor.model import recorded
from protege.search.analysis.estimates import DEPTHS
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import Trial
from protege.search.records.wording import SIZES, listed, significant, titled
from protege.spaces.architecture.sizes import RATIOS

FLOORS = (
    (0.01, "a loss of 20 to 40% of the accuracy is usual there"),
    (0.05, "students of that size often cannot represent what the teacher does"),
)
"""Shares of the teacher's parameters below which capacity is short, and what follows."""

CROWDED = 1 / 3
"""Share of the front's students at one end of a size from which the front touches the edge."""

FIXED = 0.4
"""Share of the fastest student's latency that depth cannot lower, from which it is said."""

STEP = 1 / 3
"""Share of the layers that one step of distillation should remove at most."""

TOKENS_FIRST, TOKENS_ALL = 0.4, 12
"""Training tokens for each parameter: for most of the recovery, and for nearly all of it.

Minitron (arXiv 2407.14679) trained 8 billion parameters on 94 billion tokens, 12 each. In the
ablations of NVIDIA Model Optimizer, Nemotron 9B cut to 7B has 87% of its loss back after 2.5
billion tokens, 0.4 each, and 98% after 80 billion, 11 each.
"""


def advice(front: StudyResult, best: Trial | None, latency: ObjectiveRecord | None) -> list[str]:
    """Return the advice on a study's students, the most urgent first; see `Front.advice`.

    Args:
        front: The study.
        best: The student at the knee; None if no student is on the front.
        latency: The objective that the speedup comes from, if any.
    """
    if best is None:
        return []
    found = [*_capacity(front, front.students), *_edges(front), *_latency_floor(front, latency)]
    return [*found, *_steps(front, best, ", at the knee,"), *_tokens(best)]


def advice_on(front: StudyResult, trial: Trial) -> list[str]:
    """Return the advice on one student: its capacity, steps on the way, tokens to plan."""
    return [*_capacity(front, [trial]), *_steps(front, trial), *_tokens(trial)]


def _capacity(front: StudyResult, students: Iterable[Trial]) -> Iterator[str]:
    """Name the students that are very small beside the teacher."""
    whole = front.teacher.parameters if front.teacher else None
    if not whole:
        return
    above = 0.0
    for share, then in FLOORS:
        shares = {t.number: t.parameters / whole for t in students if t.parameters}
        small = [number for number, own in shares.items() if above <= own < share]
        above = share
        if small:
            has = "has" if len(small) == 1 else "have"
            yield (
                f"{listed(small)} {has} less than {share:.0%} of the teacher's "
                f"parameters: {then}. Take a larger student if quality matters."
            )


def _edges(front: StudyResult) -> Iterator[str]:
    """Say which sizes of the space to widen, because the front crowds at their ends."""
    own = front.about.get("teacher", {}).get("architecture") or {}
    declared = front.identity.get("space") or {}
    for ratio, size in RATIOS.items():
        ends = _ends(declared.get(ratio))
        if ends is None or not own.get(size):
            continue
        cut = [one for one in front.trials if not (front.role(one) or one.other_family)]
        on_front = [one.architecture[size] for one in front.students if not one.other_family]
        tried = sorted({one.architecture[size] for one in cut})
        if not on_front:
            continue
        crowd = max(CROWDED, 2 / len(tried))
        low, high = (on_front.count(end) / len(on_front) for end in (tried[0], tried[-1]))
        if low >= crowd and len(tried) > 1 and tried[0] > 1:
            wider = _lower(ends[0], tried[0], own[size], is_depth=size in DEPTHS)
            yield _edge(size, low, tried[0], "smallest", f"{ratio} down to {wider:g}")
        if high >= crowd and len(tried) > 1 and ends[1] < 1 and tried[-1] < own[size]:
            yield _edge(size, high, tried[-1], "largest", f"{ratio} up to 1")


def _ends(declared: Any) -> tuple[float, float] | None:
    """Return the ends of a declared range or choice, or None for a fixed size."""
    if not isinstance(declared, Mapping):
        return None
    if declared.get("kind") == "Range":
        return float(declared["low"]), float(declared["high"])
    values = declared.get("values") or ()
    return (float(min(values)), float(max(values))) if len(values) > 1 else None


def _lower(low: float, size: int, whole: int, *, is_depth: bool) -> float:
    """Return a smaller ratio: one layer less, or half of the width."""
    if is_depth:
        return floor(100 * (size - 1) / whole) / 100
    return round(low / 2, 2)


def _edge(size: str, share: float, end: int, which: str, wider: str) -> str:
    return (
        f"{share:.0%} of the students on the front are at the {which} value of {SIZES[size]} in "
        f"the space, {end:,}: the front may go on beyond it. Widen {wider} in a new study."
    )


def _latency_floor(front: StudyResult, objective: ObjectiveRecord | None) -> Iterator[str]:
    """Say how much of the fastest student's latency does not come from its layers."""
    model = front.estimates.latency_models.get(objective.name) if objective else None
    cut = [one for one in front.students if not one.other_family]
    if objective is None or model is None or not cut:
        return
    fastest = min(cut, key=lambda trial: trial.measurements[objective.name].value)
    place = recorded(fastest.architecture)
    value, _ = model.predict(place)
    each = model.one_more(place)
    of_layers = sum(each.get(name, 0.0) * getattr(place, name) for name in DEPTHS)
    rest = value - of_layers
    if rest >= FIXED * value:
        unit = objective.unit
        yield (
            f"{titled(objective)}: {significant(rest)} of the {significant(value)} {unit} of the "
            f"fastest student, t{fastest.number}, do not come from its layers, so fewer layers "
            "cannot go below them. Cut the width or the vocabulary, or use a faster runtime."
        )


def _steps(front: StudyResult, best: Trial, where: str = "") -> Iterator[str]:
    """Advise steps if a student lost more than a third of the layers."""
    own = front.about.get("teacher", {}).get("architecture") or {}
    if best.other_family:
        return
    for name in DEPTHS:
        whole, kept = own.get(name) or 0, best.architecture.get(name) or 0
        if whole and 0 < kept < whole * (1 - STEP) - 1e-9:
            way = " → ".join(map(str, _way(whole, kept)))
            yield (
                f"t{best.number}{where} drops {1 - kept / whole:.0%} of the {SIZES[name]}. "
                f"Steps of at most a third end better ({way}): distil each student from the one "
                "before, with the original teacher's outputs (Minitron, arXiv 2407.14679)."
            )


def _way(whole: int, kept: int) -> list[int]:
    """Return depths from the teacher's to the student's, each two thirds of the last or more."""
    way = [whole]
    while kept < way[-1] * (1 - STEP) - 1e-9:
        way.append(min(ceil(way[-1] * (1 - STEP) - 1e-9), way[-1] - 1))
    return [*way, kept] if way[-1] != kept else way


def _tokens(best: Trial) -> list[str]:
    """Return the number of tokens to plan for the full training of a student."""
    if not best.parameters:
        return []
    first, all_ = (_tokens_of(best.parameters * each) for each in (TOKENS_FIRST, TOKENS_ALL))
    sentence = (
        f"For the full training of t{best.number} plan {first} tokens for most of the recovery and "
        f"{all_} for nearly all of it: {TOKENS_FIRST:g} and {TOKENS_ALL} for each parameter, as "
        "published for language models of 7 to 8 billion parameters (Minitron, arXiv 2407.14679; "
        "Nemotron in NVIDIA Model Optimizer). For smaller models and other tasks this is an "
        "extrapolation; stop when the held-out quality does."
    )
    return [sentence]


def _tokens_of(count: float) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if count >= size:
            return f"{float(f'{count / size:.2g}'):g} {word}"
    return f"{count:.0f}"
