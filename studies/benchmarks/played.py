"""Simulate searches by protege and by Optuna on a fully measured space, in seconds."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler

from protege.objectives import Retention
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.running.coordinator import Coordinator
from protege.search.running.racing import Race
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.session.session import prepared_for
from protege.search.study.sampler import one_thread
from protege.search.study.study import StoredStudy
from protege.spaces import Architecture
from studies.benchmarks import tabulated
from studies.benchmarks.table import Table, TableEngine

OBJECTIVES = ObjectiveRecords(
    (
        ObjectiveRecord("latency_ms", "ms", "minimize"),
        ObjectiveRecord("retention", "", "maximize"),
    )
)

KNOBS = ("num_hidden_layers", "hidden_size", "intermediate_size")
"""The sizes in which the students of the table differ."""


@dataclass
class Course:
    """The progress of a search after each of its trials.

    Attributes:
        volumes: The share of the space's hypervolume.
        costs: The training cost so far, in trainings of a median student.
    """

    volumes: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def after(self, trials: int) -> float:
        """Return the share of the hypervolume after some trials."""
        return self.volumes[min(trials, len(self.volumes)) - 1]

    def at(self, cost: float) -> float:
        """Return the share of the hypervolume at some training cost."""
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
    """Simulate a search as `protege.search.Search` runs it, with its coordinator and race.

    Args:
        table: The measured space.
        seed: The study's seed.
        trials: Maximum number of trials.
        race: The race; None to stop no student early.
        spend: Maximum training cost, in trainings of a median student.
        sampler: A sampler of Optuna's to use instead of the default.
    """
    spent: list[float] = []
    course, finished = Course(), list[str]()
    with TemporaryDirectory() as folder, _quiet():
        optuna_study = optuna.create_study(directions=["minimize", "maximize"])
        search = tabulated.search
        coordinator = Coordinator(
            study=StoredStudy.open(optuna_study, search.students, OBJECTIVES, seed, sampler),
            prepared=prepared_for(search),
            objectives=[Retention()],
            folder=Path(folder),
            race=race,
            engine=TableEngine(table, spent.append, halts=race is not None),
        )
        for trial in coordinator.go_on(Stopping(trials, None, None), StopRequest()):
            if trial.stopped_at is None:
                finished.append(trial.key)
            course.volumes.append(table.volume(finished))
            course.costs.append(sum(spent))
            if course.costs[-1] > spend:
                break
    return course


def optunas(table: Table, sampler: BaseSampler, trials: int) -> Course:
    """Simulate a search by one of Optuna's samplers, used as its documentation shows."""
    # two students share the sizes of the naive baseline; the dict keeps the declared one, the last
    known = {_sizes(member): member.key() for member in tabulated.search.students}
    grid = _grid(table)
    course, tried = Course(), list[str]()
    with _quiet():
        optuna_study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        for _ in range(trials):
            trial = optuna_study.ask(grid)
            key = known[tuple(trial.params.values())]
            optuna_study.tell(trial, table.values(key))
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
    """Use one thread and silence Optuna's log."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with one_thread():
        yield
