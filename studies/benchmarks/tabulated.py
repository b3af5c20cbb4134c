"""Measure all students of a space of all-MiniLM-L6-v2, so that searches of it can be simulated.

Each of its 246 students is trained to the end and scored at every rung as in the demo; then all
latencies are measured on an otherwise idle machine. Run as ``python -m
studies.benchmarks.tabulated``; it takes an hour on two cores, can be resumed, and writes the table
beside this file.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from optuna.samplers import RandomSampler

from protege.objectives import Candidate, Latency, Parameters, Retention
from protege.search import LocalEngine, Search, State, Trial
from protege.spaces import Greedy, Range, SearchSpace
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER
from studies.benchmarks.racing import NOBODY_STOPS

TABLE = Path(__file__).with_name("minilm_space.parquet")
"""One row per student: sizes, latency, retention at every rung, seconds of training."""

SPACE = SearchSpace(
    layers=Range(0.3, 1.0),
    hidden=Range(0.5, 1.0, 1 / 12),
    intermediate=Range(0.25, 1.0, 1 / 8),
    layer_policy=Greedy(),
)
"""The demo's space with smaller steps of the width, and the layers that the table was made with."""

LATENCY = next(one for one in minilm_cpu.search.objectives if isinstance(one, Latency))

search = Search(
    name="tabulated",
    teacher=minilm_cpu.search.teacher,
    space=SPACE,
    objectives=[Parameters(), Retention()],
    distillation=minilm_cpu.search.distillation,
    folder=FOLDER / "tabulated",
    sampler=RandomSampler(seed=0),  # the order does not matter
    race=NOBODY_STOPS,
)


def table(trials: Sequence[Trial]) -> pd.DataFrame:
    """Measure latencies and return one row per student, ordered by key."""
    rows, shared = [], search.prepare()
    members = search.students.resolved(shared.calibration).by_key
    for trial in sorted(trials, key=lambda one: one.key):
        if trial.state is not State.COMPLETE:
            raise RuntimeError(f"{trial.label} is {trial.state}: {trial.reason}")
        latency = LATENCY.measure(Candidate(shared, members[trial.key]))
        rows.append(
            {"key": trial.key, **trial.architecture}
            | {"parameters_m": trial.measurements["parameters_m"].value}
            | {"latency_ms": latency.value, "latency_spread_ms": latency.spread}
            | {f"retention_{step}": value for step, value in trial.curve.items()}
            | {"retention_spread": trial.measurements["retention"].spread}
            | {"distil_s": trial.seconds.get("distil", 0.0)}
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    front = search.run(trials=10_000, engine=LocalEngine(jobs=2))
    table(front.trials).to_parquet(TABLE, index=False)
    print(f"{len(front.trials)} students: {TABLE}")
