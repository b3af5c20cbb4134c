"""Compare how fast protege's default sampler and those of Optuna find the front.

All search the 246 students of all-MiniLM-L6-v2 in ``minilm_space.parquet`` (see `tabulated`), with
75 trials and 20 seeds each. Results are shares of the space's hypervolume by trials and by training
cost, in trainings of a median student. Optuna's samplers are used as its documentation shows, on
the three sizes in which students differ. Its Gaussian process is also run inside protege, with
anchors and without repeated proposals.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from protege.search.running.racing import Race
from protege.spaces.files.atomic import write_text
from studies.benchmarks import tabulated
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.benchmarks.played import Course, optunas, protege
from studies.benchmarks.table import Table

TRIALS = 75
"""Trials of each search; more than reported, so that searches of small students also reach the
reported costs."""

TOLD_AT = (30, 60)
"""Trials, and costs in trainings of a median student, at which results are reported."""

PROTEGES = DEFAULT, RACING = "default", "default, racing"
"""Searches with protege's own sampler."""

ANCHORED = "gp with anchors"
"""A search by protege with Optuna's Gaussian process as its sampler."""

OPTUNAS: Mapping[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: GPSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "tpe multivariate": lambda seed: TPESampler(seed=seed, multivariate=True),
    "nsga-ii": lambda seed: NSGAIISampler(seed=seed),
    "nsga-ii 20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "random": lambda seed: RandomSampler(seed=seed),
}

SPEND = 80.0
"""The training cost at which a search with a race ends, so that all reach the reported 60."""


@cache
def table() -> Table:
    """Load the measured space."""
    rows = pd.read_parquet(tabulated.TABLE).set_index("key")
    return Table(rows, tabulated.search.students.baselines[0].key())


def played(name: str, seed: int, trials: int) -> Course:
    """Simulate a search by its name."""
    whole = len(table().rows)
    if name == DEFAULT:
        return protege(table(), seed, trials)
    if name == RACING:
        return protege(table(), seed, whole, race=Race(), spend=SPEND)
    if name == ANCHORED:
        return protege(table(), seed, trials, sampler=GPSampler(seed=seed))
    return optunas(table(), OPTUNAS[name](seed), trials)


def figures(names: Sequence[str], *, quick: bool) -> Iterator[Figure]:
    """Yield each search's share of the hypervolume over seeds, and plot all searches so far."""
    seeds, trials = (2, 15) if quick else (20, TRIALS)
    courses: dict[str, list[Course]] = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for name in names:
            course = partial(played, name, trials=trials)
            courses[name] = list(pool.map(course, range(seeds)))
            print(f"{name}: {np.median([one.after(30) for one in courses[name]]):.4f}", flush=True)
    for at in TOLD_AT:
        for name, found in courses.items():
            yield Figure.of(f"hypervolume at {at} ({name})", [one.after(at) for one in found])
        for name, found in courses.items():
            yield Figure.of(f"hypervolume at cost {at} ({name})", [one.at(at) for one in found])
    path = FOLDER / ("sampler-quick" if quick else "sampler")
    path.mkdir(parents=True, exist_ok=True)
    for name, found in courses.items():
        write_text(path / f"{name}.json", json.dumps([asdict(one) for one in found]))
    drawn(path)
    print(f"Courses: {path}.html")


def drawn(folder: Path) -> None:
    """Plot the missing share of the hypervolume over trials: median and interquartile range."""
    figure = go.Figure()
    colours = cycle(("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"))
    for name, colour in zip((*PROTEGES, ANCHORED, *OPTUNAS), colours, strict=False):
        path = folder / f"{name}.json"
        if name == RACING or not path.exists():  # its trials cost less and are not comparable
            continue
        missing = 1 - np.array([one["volumes"] for one in json.loads(path.read_text())])
        x = np.arange(1, missing.shape[1] + 1)
        low, middle, high = np.maximum(np.quantile(missing, [0.25, 0.5, 0.75], axis=0), 1e-4)
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=colour,
            opacity=0.15,
            line_width=0,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(x=x, y=middle, name=name, line_color=colour)
    figure.update_xaxes(title="trials")
    title = "missing share of the hypervolume"
    figure.update_yaxes(title=title, type="log", dtick=1, tickformat=".4~f")
    figure.update_layout(template="plotly_white")
    figure.write_html(f"{folder}.html")


if __name__ == "__main__":
    parts = {
        "protege": partial(figures, PROTEGES),
        "optuna": partial(figures, (ANCHORED, *OPTUNAS)),
    }
    run_parts("sampler", __doc__ or "", parts)
