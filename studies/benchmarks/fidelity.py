"""Whether the short distillation of the demo studies ranks students as one eight times as long.

Students are drawn at random from the studies' spaces; each is taught as the study teaches and,
anew, for eight times as many steps. Every student is stored when it is done, so that the same
command goes on where it was.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from protege.objectives import Candidate, Retention, Stopwatch
from protege.search import Search
from protege.search.analysis.fidelity import Fidelity, measured
from protege.search.progress import watching
from protege.spaces import Architecture
from studies import minilm_cpu, smollm2_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

TIMES = 8
STUDENTS = {"minilm": 16, "smollm2": 10}


def drawn(search: Search, name: str, count: int) -> list[Architecture]:
    """So many of a search's students at random, its runs kept in a folder of this benchmark."""
    search.folder = FOLDER / "fidelity" / name
    search.resolve()
    others = [member for member in search.space if member != search.teacher.architecture]
    return random.Random(0).sample(others, count)


def fidelity(search: Search, name: str, count: int) -> Fidelity:
    """Every one of the students taught as the search does, and for eight times as long."""
    students = drawn(search, name, count)
    made = [(number, partial(_anew, search, one)) for number, one in enumerate(students)]
    with watching(name) as announce:
        return measured(_retention(search), made, FOLDER / "fidelity" / name, TIMES, announce)


def agreeing(found: Fidelity, name: str, bar: str) -> Iterator[Figure]:
    """Kendall's tau of every rung of a search with its long run."""
    last = max(found.by_rung)
    for step, one in found.by_rung.items():
        label = f"{name} kendall" + ("" if step == last else f" at step {step} of {last}")
        told = f"{bar}; top {one.k} shared {one.overlap:.2f}" if step == last else ""
        yield Figure(label, one.kendall, *one.kendall_interval, compared_with=told)


def _anew(search: Search, architecture: Architecture) -> Candidate:
    return replace(search.candidate(architecture), stopwatch=Stopwatch())


def _retention(search: Search) -> Retention:
    if search.retention is None:
        raise RuntimeError("the study trains nothing")
    return search.retention


def minilm(*, quick: bool) -> Iterator[Figure]:
    """Sixteen students of all-MiniLM-L6-v2."""
    count = 3 if quick else STUDENTS["minilm"]
    yield from agreeing(fidelity(minilm_cpu.search, "minilm", count), "minilm", "at least 0.8")


def smollm2(*, quick: bool) -> Iterator[Figure]:
    """Ten students of SmolLM2-135M."""
    count = 3 if quick else STUDENTS["smollm2"]
    yield from agreeing(fidelity(smollm2_cpu.study(), "smollm2", count), "smollm2", "at least 0.7")


if __name__ == "__main__":
    parts = {"minilm": minilm, "smollm2": smollm2}
    run_parts("fidelity", __doc__ or "", parts)
