"""Test whether the demo studies' short distillation ranks students like one eight times as long.

Random students of the studies' spaces are distilled as in the study and, separately, for eight
times as many steps. Results are stored per student, so the same command resumes.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from protege.objectives import Candidate, Retention
from protege.search import Search
from protege.search.analysis.fidelity import Fidelity, measured
from protege.search.progress import watching
from studies import minilm_cpu, smollm2_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

TIMES = 8
STUDENTS = {"minilm": 16, "smollm2": 10}


def fidelity(declared: Search, name: str, count: int) -> Fidelity:
    """Distil random students as the search does, and for eight times as long."""
    folder = FOLDER / "fidelity" / name
    search = replace(declared, folder=folder)
    shared = search.prepare()
    space = search.students.resolved(shared.calibration)
    others = [member for member in space if member != search.teacher.architecture]
    drawn = random.Random(0).sample(others, count)
    made = {number: Candidate(shared, one) for number, one in enumerate(drawn)}
    with watching(name) as announce:
        return measured([Retention()], made, folder, TIMES, announce)


def agreeing(found: Fidelity, name: str, bar: str) -> Iterator[Figure]:
    """Yield Kendall's tau of every rung with the long run."""
    last = max(found.by_rung)
    for step, one in found.by_rung.items():
        label = f"{name} kendall" + ("" if step == last else f" at step {step} of {last}")
        told = f"{bar}; top {one.k} shared {one.overlap:.2f}" if step == last else ""
        yield Figure(label, one.kendall, *one.kendall_interval, compared_with=told)


def minilm(*, quick: bool) -> Iterator[Figure]:
    """Measure sixteen students of all-MiniLM-L6-v2."""
    count = 3 if quick else STUDENTS["minilm"]
    yield from agreeing(fidelity(minilm_cpu.search, "minilm", count), "minilm", "at least 0.8")


def smollm2(*, quick: bool) -> Iterator[Figure]:
    """Measure ten students of SmolLM2-135M."""
    count = 3 if quick else STUDENTS["smollm2"]
    yield from agreeing(fidelity(smollm2_cpu.study(), "smollm2", count), "smollm2", "at least 0.7")


if __name__ == "__main__":
    parts = {"minilm": minilm, "smollm2": smollm2}
    run_parts("fidelity", __doc__ or "", parts)
