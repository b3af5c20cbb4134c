"""Measure a study's own overhead per trial: proposing, scoring at rungs, storing.

Nothing is cut, trained or measured: trials have synthetic results computed from their sizes. A
study is filled with finished trials, and the processor time of each further trial is measured.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import plotly.graph_objects as go

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.study.importing import import_trial
from protege.search.study.study import StoredStudy, open_study
from protege.spaces import Architecture, Choice, Range, SearchSpace
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.benchmarks.side_by_side import lease, nodes

SIZES = (50, 230, 300, 1000, 3000, 10_000)
"""Numbers of finished trials; up to 250 the sampler is a Gaussian process, beyond it is TPE."""
TRIALS = 12
"""Timed trials at each size."""
STEPS = (0, 7, 20)
"""The rungs at which each trial is scored."""

TEACHER = Architecture(
    model_type="llama",
    num_hidden_layers=30,
    hidden_size=576,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    intermediate_size=1536,
    vocab_size=49_152,
)
"""The sizes of SmolLM2-135M."""

SPACE = SearchSpace(
    layers=Range(0.2, 1.0),
    hidden=Range(0.5, 1.0, 1 / 24),
    kv_heads=Choice(1 / 3, 2 / 3, 1.0),
    intermediate=Range(0.2, 1.0, 1 / 24),
)
"""A space of some 20,000 students."""

OBJECTIVES = ObjectiveRecords(
    (
        ObjectiveRecord("latency_ms", "ms", "minimize"),
        ObjectiveRecord("retention", "", "maximize"),
    )
)


def trial(number: int, architecture: Architecture) -> Trial:
    """Return a finished trial with synthetic results and a record as long as a real one."""
    depth, width = architecture.num_hidden_layers / 30, architecture.hidden_size / 576
    feed_forward = architecture.intermediate_size / 1536
    cost = 40 * depth * width * (0.4 + 0.6 * feed_forward)
    quality = depth**0.5 * width**0.4 * feed_forward**0.2
    details: dict[str, float | str] = {f"detail {at}": quality for at in range(12)}
    found = {
        "latency_ms": Measurement(cost, 0.01 * cost, tuple([cost] * 20), details),
        "retention": Measurement(
            quality, 0.01, tuple([quality] * 60), details, tuple([quality] * 512)
        ),
    }
    rungs = {step: {"retention": quality * step / 60} for step in (*STEPS, 60)}
    state = State.COMPLETE
    return Trial(number, architecture.key(), architecture.fields(), state, found, rungs=rungs)


def filled(storage: str, space: SearchSpace, count: int) -> StoredStudy:
    """Create a study with random finished trials."""
    optuna_study = open_study(storage, "scale", OBJECTIVES)
    students = Random(0).sample([*space], count)
    for number, architecture in enumerate(students):
        import_trial(optuna_study, space, OBJECTIVES, trial(number, architecture), "drawn")
    return StoredStudy.open(optuna_study, space, OBJECTIVES, seed=0)


def judged(study: StoredStudy, one: Trial) -> None:
    """Run the storage operations of a trial at every rung."""
    for step in STEPS:
        values = [one.measurements["latency_ms"].value, one.curve[step]]
        study.store_rung(one.number, step, values)
        study.others_at_rung(one.number, step)


def spent(study: StoredStudy, trials: int) -> dict[str, list[float]]:
    """Return the processor time in ms of each operation, for some further trials."""
    found: dict[str, list[float]] = {"asking": [], "judging": [], "telling": []}

    def timed(part: str, operation: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = operation()
        found[part].append(1e3 * (time.process_time() - before))
        return result

    for _ in range(trials):
        number, architecture = timed("asking", study.ask)
        one = trial(number, architecture)
        timed("judging", partial(judged, study, one))
        timed("telling", partial(study.tell, one))
    return found


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the milliseconds per trial by the size of the study, and plot them."""
    space = SPACE.of(TEACHER, has_data=False)
    by_size: dict[int, dict[str, list[float]]] = {}
    for size in SIZES[:3] if quick else SIZES:
        with TemporaryDirectory() as folder:
            study = filled(f"sqlite:///{folder}/study.db", space, size)
            spent(study, 7)  # the anchors, which the sampler does not propose
            by_size[size] = spent(study, 3 if quick else TRIALS)
        told = "at most 200" if size == 1000 else ""
        whole = [sum(parts) for parts in zip(*by_size[size].values(), strict=True)]
        yield Figure.of(f"overhead ms at {size} trials (sqlite)", whole, "ms", told)
        for part, values in by_size[size].items():
            bar = "at most 1000" if part == "asking" and size < 250 else ""
            yield Figure.of(f"{part} at {size} trials (sqlite)", values, "ms", bar)
    path = FOLDER / "scale.html"
    drawn(by_size, path)
    print(f"Growth: {path}")


def drawn(by_size: dict[int, dict[str, list[float]]], path: Path) -> None:
    """Plot the milliseconds per trial of each operation over the size of the study, log-log."""
    figure = go.Figure()
    for part in ("asking", "judging", "telling"):
        median = [sorted(found[part])[len(found[part]) // 2] for found in by_size.values()]
        figure.add_scatter(x=[*by_size], y=median, name=part, mode="lines+markers")
    figure.update_xaxes(title="finished trials", type="log")
    figure.update_yaxes(title="processor time per trial (ms)", type="log")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path)


if __name__ == "__main__":
    parts = {"overhead": figures, "nodes": nodes, "lease": lease}
    run_parts("scale", __doc__ or "", parts)
