"""Searches of a space that was measured whole, played in seconds: protege's own, and Optuna's."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler

from protege.objectives import Stopwatch
from protege.search.records.goals import Goal, Goals
from protege.search.running.coordinator import Coordinator
from protege.search.running.racing import Race
from protege.search.running.stopping import Leaving, Stopping
from protege.search.study.ledger import open_ledger
from protege.search.study.sampler import one_thread
from protege.spaces import Architecture
from studies.benchmarks import tabulated
from studies.benchmarks.table import Table, TableEngine

GOALS = Goals(
    (
        Goal("latency_ms", "ms", "minimize", None, "latency"),
        Goal("retention", "", "maximize", None, "retention"),
    )
)

KNOBS = ("num_hidden_layers", "hidden_size", "intermediate_size")
"""What differs between the students of the table."""


@dataclass
class Course:
    """What a search knew after each of its trials.

    Attributes:
        volumes: The share of the hypervolume.
        costs: What had been spent on training until then, in trainings of a median student.
    """

    volumes: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def after(self, trials: int) -> float:
        """The share after so many trials."""
        return self.volumes[min(trials, len(self.volumes)) - 1]

    def at(self, cost: float) -> float:
        """The share when so much had been spent."""
        reached = zip(self.volumes, self.costs, strict=True)
        return max((volume for volume, spent in reached if spent <= cost), default=0.0)


def protege(
    table: Table,
    seed: int,
    trials: int,
    *,
    race: Race | None = None,
    spend: float = math.inf,
    sampler: BaseSampler | None = None,
) -> Course:
    """A search as `protege.search.Search` runs it: with its ledger, its coordinator and its race.

    Args:
        table: Where students are looked up.
        seed: The study's.
        trials: It ends after so many,
        race: When a student is stopped on its way; never if not given.
        spend: or when so much was spent on training.
        sampler: One of Optuna's in place of the default.
    """
    spent: list[float] = []
    course, finished = Course(), list[str]()
    with TemporaryDirectory() as folder, _quiet():
        study = optuna.create_study(directions=["minimize", "maximize"])
        search = tabulated.search
        coordinator = Coordinator(
            ledger=open_ledger(study, search.space, GOALS, seed, sampler),
            candidate=search.candidate,
            objectives=[tabulated.RETENTION],
            folder=Path(folder),
            race=race,
            stopwatch=Stopwatch(),
            engine=TableEngine(table, spent.append, halts=race is not None),
        )
        for trial in coordinator.go_on(Stopping(trials, None, None), Leaving()):
            if trial.stopped_at is None:
                finished.append(trial.key)
            course.volumes.append(table.volume(finished))
            course.costs.append(sum(spent))
            if course.costs[-1] > spend:
                break
    return course


def optunas(table: Table, sampler: BaseSampler, trials: int) -> Course:
    """A search by one of Optuna's samplers, used as its documentation shows."""
    # of the naive half the declared student of its sizes is the last
    known = {_sizes(member): member.key() for member in tabulated.search.space}
    grid = _grid(table)
    course, tried = Course(), list[str]()
    with _quiet():
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        for _ in range(trials):
            trial = study.ask(grid)
            key = known[tuple(trial.params.values())]
            study.tell(trial, table.values(key))
            tried.append(key)
            course.volumes.append(table.volume(tried))
            course.costs.append(sum(map(table.cost, tried)))
    return course


def _sizes(member: Architecture) -> tuple[int, ...]:
    return tuple(getattr(member, name) for name in KNOBS)


def _grid(table: Table) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name in KNOBS:
        values = sorted({int(value) for value in table.rows[name]})
        found[name] = IntDistribution(values[0], values[-1], step=values[1] - values[0])
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """On one thread, without Optuna's log."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with one_thread():
        yield
