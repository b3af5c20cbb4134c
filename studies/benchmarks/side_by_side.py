"""Measure parallel jobs: the speed-up of a second Ray node, and the effect of exclusive timing."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from optuna.samplers import RandomSampler

from protege.objectives import LocalCPU, Parameters, Retention, Workload
from protege.objectives.distillation import training
from protege.objectives.latency import Plan
from protege.objectives.latency.timing.comparison import timed
from protege.search import RayEngine, Search
from studies import minilm_cpu
from studies.benchmarks.encoders import NEAR_TIES, REFERENCE
from studies.benchmarks.figures import Figure

TRIALS = 34
"""The teacher, a first student, and 32 timed ones: enough that the idle time of one node at the end
hardly matters."""

CEILING_S = 20.0
"""Seconds for which independent processes are timed."""


def nodes(*, quick: bool) -> Iterator[Figure]:
    """Yield the trials per hour of two Ray nodes over those of one, with one processor per job.

    Both nodes are on this machine. Students are trained and scored without latency, which would
    lock the machine for both nodes. The upper bound is the speed-up of two independent processes.
    """
    ceilings = [_steps(2) / _steps(1) for _ in range(1 if quick else 3)]
    yield Figure.of("two processes over one, without a study", ceilings)
    ratios, hours = [], []
    for number in range(1 if quick else 2):
        one, two = (_an_hour(count, number, quick=quick) for count in (1, 2))
        print(f"one node {one:.0f}, two nodes {two:.0f} trials an hour", flush=True)
        ratios.append(two / one)
        hours.append(one)
    yield Figure.of("two nodes over one", ratios, "", "at least 1.7; the same CPUs for each job")
    yield Figure.of("trials an hour of one node", hours)


def _an_hour(count: int, seed: int, *, quick: bool) -> float:
    """Return the trials per hour of some nodes, after the teacher's outputs are cached."""
    demo = minilm_cpu.search
    steps = 5 if quick else 20
    with TemporaryDirectory() as folder, _cluster(count) as address:
        search = Search(
            name="nodes",
            teacher=demo.teacher,
            space=demo.space,
            objectives=[Parameters(), Retention()],
            distillation=demo.distillation and replace(demo.distillation, steps=steps),
            folder=folder,
            seed=seed,
            sampler=RandomSampler(seed=seed),  # on a cluster of one machine, proposals cost a node
            race=None,
        )
        engine = RayEngine(address)
        first = search.run(trials=2, engine=engine)  # caches the teacher's outputs
        began = time.monotonic()
        front = search.run(trials=TRIALS, engine=engine)
        starting = float(
            front.about["seconds"]["starting workers"] - first.about["seconds"]["starting workers"]
        )
        return 3600 * (TRIALS - 2) / (time.monotonic() - began - starting)


def _steps(processes: int) -> int:
    """Count the training steps of some independent single-threaded processes."""
    with get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(_counted, [CEILING_S] * processes, chunksize=1))


def _counted(seconds: float) -> int:
    torch.set_num_threads(1)
    model: Any = REFERENCE.blueprint.build()
    ids = torch.randint(1000, (32, 64))
    count, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        model(input_ids=ids).last_hidden_state.square().mean().backward()
        count += 1
    return count


@contextmanager
def _cluster(count: int) -> Iterator[str]:
    """Start a Ray cluster of nodes with one processor each on this machine; yield its address."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    known: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(count):
        known.add_node(num_cpus=1)
    try:
        yield known.address
    finally:
        known.shutdown()


def lease(*, quick: bool) -> Iterator[Figure]:
    """Yield the spread of one latency on an idle machine, and beside two training jobs."""
    times = 3 if quick else 10
    yield from _spread("nobody trains", times)
    with _trained(leased=True):
        yield from _spread("two jobs train and wait", times)
    with _trained(leased=False):
        yield from _spread("two jobs train and do not wait", times)


def _spread(label: str, times: int) -> Iterator[Figure]:
    models, workload = (REFERENCE.blueprint, NEAR_TIES[0].blueprint), Workload(prompt_tokens=32)
    begin = time.monotonic()
    found = [timed(models, workload, LocalCPU(), Plan()) for _ in range(times)]
    seconds = (time.monotonic() - begin) / times
    ratios = [one.ratio() for one in found]
    walls = [one.reference_ms() for one in found]
    yield Figure.of(f"ratio to the teacher ({label})", ratios)
    yield Figure.of(f"milliseconds of the teacher ({label})", walls, "ms")
    yield Figure(f"seconds of a measurement ({label})", seconds, seconds, seconds, "s")
    for name, values in (("ratio", ratios), ("milliseconds", walls)):
        share = stdev(values) / mean(values)
        yield Figure(f"spread of the {name} ({label})", share, share, share)


@contextmanager
def _trained(*, leased: bool) -> Iterator[None]:
    """Train students in two single-threaded processes during the block."""
    context = get_context("spawn")
    crew = [context.Process(target=_train, args=(Trained(leased, at),)) for at in range(2)]
    for one in crew:
        one.start()
    time.sleep(20)  # until they have loaded their teacher
    try:
        yield
    finally:
        for one in crew:
            one.kill()
            one.join()


@dataclass(frozen=True)
class Trained:
    """A training process: its number, and whether it pauses while a latency is measured."""

    leased: bool
    number: int


def _train(given: Trained) -> None:
    torch.set_num_threads(1)
    if not given.leased:
        setattr(training, "shared_machine", nullcontext)  # noqa: B010 - a name that it imports
    demo = minilm_cpu.search
    while True:
        with TemporaryDirectory() as folder:
            search = Search(
                name="trained",
                teacher=demo.teacher,
                space=demo.space,
                objectives=[Parameters(), Retention()],
                distillation=demo.distillation,
                folder=folder,
                seed=given.number,
                race=None,
            )
            search.run(trials=20)
