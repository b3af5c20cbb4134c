"""Measure three cuts that a rule of thumb is often quoted for, beside what it promises.

Half of the layers, half of the width, and 30% of both: students of all-MiniLM-L6-v2, timed in
PyTorch and in ONNX Runtime, and of SmolLM2-135M, each cut and distilled as in the demos. "Faster"
is the speed-up minus one. The cuts are those of the report's table.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from protege.objectives import Latency, LocalCPU, Objective, Retention, Workload
from protege.search import Search, State
from protege.search.cli.main import guarded
from protege.search.report.sections.cuts import CUTS, Cut
from protege.spaces import SearchSpace
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

QUICK_STEPS = 4


def minilm(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures of MiniLM's students in PyTorch and in ONNX Runtime."""
    from studies.minilm_cpu import search

    call = Workload(batch_size=1, prompt_tokens=128)
    timed = {
        "PyTorch": Latency(LocalCPU(threads=1), call),
        "ONNX Runtime": Latency(LocalCPU(threads=1, runtime="onnxruntime"), call, label="onnx"),
    }
    yield from _measured("minilm", search, timed, quick=quick)


def smollm2(*, quick: bool) -> Iterator[Figure]:
    """Yield the figures of SmolLM2's students."""
    from studies.smollm2_cpu import study

    call = Workload(batch_size=1, prompt_tokens=128, new_tokens=32)
    timed = {"PyTorch": Latency(LocalCPU(threads=1), call)}
    yield from _measured("smollm2", study(), timed, quick=quick)


def _measured(
    name: str, demo: Search, timed: dict[str, Latency], *, quick: bool
) -> Iterator[Figure]:
    for cut in CUTS:
        search = of_cut(name, demo, cut, [*timed.values(), Retention()], quick=quick)
        shutil.rmtree(search.folder, ignore_errors=True)
        # the teacher, the naive half and the one student of the space
        front = search.run(trials=3)
        what = f"{name}, {cut.title}"
        wanted = [
            one
            for one in front.trials
            if one.state is State.COMPLETE and not front.role(one) and one is not front.teacher
        ]
        if not wanted:
            failed = "; ".join(one.reason for one in front.trials if one.reason)
            print(f"{what}: not measured ({failed or 'the space has no such student'})")
            continue
        (student,) = wanted
        print(f"{what}: {student.label}", flush=True)
        kept = student.measurements["retention"]
        ends = [100 * (kept.value + sign * kept.spread) for sign in (-1, 0, 1)]
        yield Figure.of(f"{what}: retention", ends, "%", f"{cut.kept} promised")
        for runtime, latency in timed.items():
            faster = 100 * (float(student.measurements[latency.name].details["speedup"]) - 1)
            said = f"{cut.faster} promised"
            yield Figure.of(f"{what}: faster in {runtime}", [faster], "%", said)


def of_cut(
    name: str, demo: Search, cut: Cut, objectives: Sequence[Objective], *, quick: bool
) -> Search:
    """Return the demo's study with the one student of a cut."""
    settings = demo.distillation
    assert settings
    topic = f"seed-table-quick/{name}" if quick else f"seed-table/{name}"
    return replace(
        demo,
        name=f"seed-table-{name}",
        space=SearchSpace(layers=cut.depth, hidden=cut.width, intermediate=cut.width),
        objectives=objectives,
        distillation=replace(settings, steps=QUICK_STEPS) if quick else settings,
        folder=FOLDER / topic / f"{CUTS.index(cut)}",
        race=None,
    )


if __name__ == "__main__":
    parts = {"minilm": minilm, "smollm2": smollm2}
    sys.exit(guarded(lambda: run_parts("seed_table", __doc__ or "", parts)))
