"""Compare one learning rate for all students with a rate that depends on their start.

Students of all-MiniLM-L6-v2 are distilled as in the demo, each twice from the same start on the
same batches: at the full rate, reporting the last rung ("one rate"); and at a rate scaled by the
distance from the teacher, reporting the best rung ("rate by distance"). A third training, eight
times as long, gives the order that the short ones should find. Latencies for the hypervolume come
from the table of the space beside this file.

Results are stored per training, so the same command resumes. The parts ``seed-0`` to ``seed-2`` may
run in parallel; ``compared`` reads their results.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from protege.objectives import Candidate, Measurement, Retention
from protege.objectives.candidate import Prepared
from protege.objectives.quality.rungs import CandidateDistillation
from protege.search.analysis.agreement import kendall
from protege.search.progress import watching
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import State, Trial
from protege.spaces import Architecture
from protege.spaces.files.atomic import write_text
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.benchmarks.tabulated import TABLE

TIMES = 8
STUDENTS = 8
SEEDS = (0, 1, 2)
ONE_RATE, BY_DISTANCE, LONG = "one rate", "rate by distance", "eight times as long"


@dataclass(frozen=True)
class Run:
    """One training of one student.

    Attributes:
        student: The student's label.
        rungs: Retention at each rung by steps; the first is the start.
        published: Retention of the best rung.
        rate: The peak learning rate.
    """

    student: str
    rungs: dict[str, float]
    published: float
    rate: float

    @property
    def start(self) -> float:
        """Retention as cut and healed."""
        return self.rungs["0"]

    @property
    def end(self) -> float:
        """Retention after the last step."""
        return [*self.rungs.values()][-1]


SEARCH = replace(minilm_cpu.search, folder=FOLDER / "rates" / "run")


@cache
def _prepared() -> Prepared:
    return SEARCH.prepare()


def students(count: int) -> list[Architecture]:
    """Choose healed students of full width from the demo's space, evenly spread over their size.

    The demo's front consists of such students. Those that keep nearly all of the teacher are the
    ones that a too high learning rate degrades.
    """
    own = SEARCH.teacher.architecture
    found = [
        one
        for one in SEARCH.students.resolved(_prepared().calibration)
        if one.healing != "none" and one.hidden_size == own.hidden_size and one != own
    ]
    found.sort(key=lambda one: (one.num_hidden_layers, one.intermediate_size))
    picked = np.linspace(0, len(found) - 1, count).round().astype(int)
    return [found[at] for at in picked]


def trained(seed: int, kind: str, architecture: Architecture) -> Run:
    """Distil a student, or read what an earlier run of this command stored."""
    path = FOLDER / "rates" / f"seed-{seed}" / kind.replace(" ", "-") / f"{architecture.key()}.json"
    if not path.exists():
        write_text(path, json.dumps(asdict(_distilled(seed, kind, architecture)), indent=1))
    return Run(**json.loads(path.read_text(encoding="utf-8")))


def _distilled(seed: int, kind: str, architecture: Architecture) -> Run:
    settings = _prepared().settings
    if kind == ONE_RATE:
        settings = replace(settings, full_rate_at=0.0)
    if kind == LONG:
        settings = replace(settings, steps=TIMES * settings.steps)
    shared = replace(_prepared(), distillation=settings, seed=seed)
    with watching(f"seed {seed}, {kind}") as announce:
        shared.stopwatch.announce = announce
        distilling = CandidateDistillation(Candidate(shared, architecture), [Retention()])
        rungs = [*distilling.rungs()]
    values = {str(rung.step): rung.measurements["retention"].value for rung in rungs}
    published = rungs[-1].published["retention"].value
    return Run(str(architecture), values, published, distilling.learning_rate)


def of_seed(seed: int, *, quick: bool) -> Iterator[Figure]:
    """Train every student three times with one seed."""
    some = students(3 if quick else STUDENTS)
    for kind in (ONE_RATE, BY_DISTANCE, LONG):
        for one in some:
            found = trained(seed, kind, one)
            told = ", ".join(f"{step}: {value:.4f}" for step, value in found.rungs.items())
            print(f"seed {seed}, {kind}, {one}: rate {found.rate:.2g}; {told}", flush=True)
    yield from ()


def compared(*, quick: bool) -> Iterator[Figure]:
    """Compare both over all seeds; a figure's range is that of the seeds."""
    some = students(3 if quick else STUDENTS)
    runs = {
        kind: [[trained(seed, kind, one) for one in some] for seed in SEEDS]
        for kind in (ONE_RATE, BY_DISTANCE, LONG)
    }
    long = [[one.published for one in of] for of in runs[LONG]]
    for kind, publishes in ((ONE_RATE, "end"), (BY_DISTANCE, "published")):
        values = [[float(getattr(one, publishes)) for one in of] for of in runs[kind]]
        yield Figure.of(f"hypervolume, {kind}", [_hypervolume(some, of) for of in values])
        below = [
            sum(value < one.start for value, one in zip(of, known, strict=True))
            for of, known in zip(values, runs[kind], strict=True)
        ]
        yield Figure.of(f"published below their start, {kind}", below, f"of {len(some)}")
        ends = [sum(one.end < one.start for one in of) for of in runs[kind]]
        yield Figure.of(f"last step below the start, {kind}", ends, f"of {len(some)}")
        taus = [kendall(of, other) for of, other in zip(values, long, strict=True)]
        yield Figure.of(f"kendall's tau with {LONG}, {kind}", taus)
        for step in [*runs[kind][0][0].rungs][:-1]:
            at = [_until(of, step, best=kind == BY_DISTANCE) for of in runs[kind]]
            taus = [kendall(of, other) for of, other in zip(at, long, strict=True)]
            yield Figure.of(f"kendall's tau at step {step}, {kind}", taus)
    gains = [
        by.published - one.end
        for one_rate, by_distance in zip(runs[ONE_RATE], runs[BY_DISTANCE], strict=True)
        for one, by in zip(one_rate, by_distance, strict=True)
    ]
    yield Figure.of(
        f"retention gained, {BY_DISTANCE}", gains, "", f"{ONE_RATE}, student by student"
    )


def _until(runs: Sequence[Run], step: str, *, best: bool) -> list[float]:
    """Return each student's retention at a rung, or the best up to it."""
    steps = [*runs[0].rungs]
    until = steps[: steps.index(step) + 1] if best else [step]
    return [max(one.rungs[name] for name in until) for one in runs]


def _hypervolume(some: Sequence[Architecture], values: Sequence[float]) -> float:
    """Return the hypervolume of these students as a share of the box from teacher to ideal."""
    table = pd.read_parquet(TABLE)
    sizes = ["num_hidden_layers", "hidden_size", "intermediate_size"]
    ms = table.groupby(sizes)["latency_ms"].median()
    own = minilm_cpu.search.teacher.architecture
    objectives = ObjectiveRecords.of(minilm_cpu.search.objectives[:2])  # latency and retention

    def trial(architecture: Architecture, value: float) -> Trial:
        took = float(ms[tuple(getattr(architecture, size) for size in sizes)])
        found = {"latency_ms": Measurement(took), "retention": Measurement(value)}
        return Trial(0, architecture.key(), architecture.fields(), State.COMPLETE, found)

    trials = [trial(one, value) for one, value in zip(some, values, strict=True)]
    return objectives.hypervolume(trials, trial(own, 1.0))


if __name__ == "__main__":
    parts = {f"seed-{seed}": partial(of_seed, seed) for seed in SEEDS}
    run_parts("rates", __doc__ or "", {**parts, "compared": compared})
