"""Whether the short distillation of the demo studies ranks students as one eight times as long.

Students are drawn at random from the studies' spaces; each is taught as the study teaches and,
anew, for eight times as many steps. Every student is stored when it is done, so that the same
command goes on where it was.
"""

import random
from collections.abc import Iterator
from functools import partial

from protege.objectives import Candidate, Stopwatch
from protege.search import Search
from protege.search.fidelity import measured
from protege.search.progress import watching
from protege.spaces import Architecture
from studies import minilm_cpu, smollm2_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

TIMES = 8


def fidelity(search: Search, name: str, count: int, bar: str) -> Iterator[Figure]:
    """Kendall's tau of every rung of a search with its long run, over so many of its students."""
    folder = FOLDER / "fidelity" / name
    search.folder = folder
    search.resolve()
    others = [member for member in search.space if member != search.teacher.architecture]
    drawn = random.Random(0).sample(others, count)
    made = [(number, partial(_anew, search, one)) for number, one in enumerate(drawn)]
    if search.retention is None:
        raise RuntimeError("the study trains nothing")
    with watching(name) as announce:
        found = measured(search.retention, made, folder, TIMES, announce)
    last = max(found.by_rung)
    for step, one in found.by_rung.items():
        label = f"{name} kendall" + ("" if step == last else f" at step {step} of {last}")
        told = f"{bar}; top {one.k} shared {one.overlap:.2f}" if step == last else ""
        yield Figure(label, one.kendall, *one.kendall_interval, compared_with=told)


def _anew(search: Search, architecture: Architecture) -> Candidate:
    found = search.candidate(architecture)
    found.stopwatch = Stopwatch()
    return found


def minilm(*, quick: bool) -> Iterator[Figure]:
    """Sixteen students of all-MiniLM-L6-v2."""
    yield from fidelity(minilm_cpu.search, "minilm", 3 if quick else 16, "at least 0.8")


def smollm2(*, quick: bool) -> Iterator[Figure]:
    """Ten students of SmolLM2-135M."""
    yield from fidelity(smollm2_cpu.study(), "smollm2", 3 if quick else 10, "at least 0.7")


if __name__ == "__main__":
    run_parts("fidelity", __doc__ or "", {"minilm": minilm, "smollm2": smollm2})
