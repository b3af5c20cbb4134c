"""A space that was measured whole, so that any search of it can be played without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import moocore
import numpy as np
import pandas as pd

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.engines.engine import AtRung, Done, Event, Job
from protege.search.engines.task import Task

GOALS = ("latency_ms", "retention")
"""What the students are judged by: the first is to be small, the second large."""

QUALITY = "retention_"
"""What the columns begin with that hold the second at a rung; its steps follow."""


@dataclass(frozen=True)
class Table:
    """What is known of every student of a space, a row each.

    Attributes:
        rows: Sizes, ``latency_ms``, ``retention_<steps>`` and ``distil_s``, by key.
        teacher: The key of the teacher itself.
    """

    rows: pd.DataFrame
    teacher: str

    @cached_property
    def steps(self) -> list[int]:
        """The rungs, ascending; at the last a student is done."""
        ends = (str(name).removeprefix(QUALITY) for name in self.rows)
        return sorted(int(end) for end in ends if end.isdecimal())

    def values(self, key: str, step: int | None = None) -> list[float]:
        """A student's value of each goal; at its end if no rung is given."""
        steps = self.steps[-1] if step is None else step
        found = self.rows.loc[key, ["latency_ms", f"{QUALITY}{steps}"]]
        return [*found.to_numpy(dtype=float)]

    def cost(self, key: str, step: int | None = None) -> float:
        """What it takes to train a student up to a rung, or to its end: 1 for a median student.

        The seconds were measured on a machine that did other things as well, so a line through
        all of them, over the weights in the student's layers, stands for each.
        """
        share = 1.0 if step is None else step / self.steps[-1]
        return float(share * self._costs[key])

    def volume(self, keys: Sequence[str]) -> float:
        """The hypervolume that these students dominate, as a share of the whole space's.

        As in `Goals.hypervolume`, it is in shares of the teacher, up from no quality at the
        teacher's own latency.
        """
        return self._volume([self._numbers[key] for key in keys]) / self._whole

    @cached_property
    def _points(self) -> Any:
        """Every student in shares of the teacher, to be minimised."""
        own = np.array(self.values(self.teacher))
        points = np.array([self.values(key) for key in self.rows.index]) / own
        return np.minimum(points * [1, -1], [1.0, 0.0])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {key: number for number, key in enumerate(self.rows.index)}

    @cached_property
    def _whole(self) -> float:
        return self._volume(range(len(self.rows)))

    def _volume(self, numbers: Sequence[int]) -> float:
        chosen = self._points[list(numbers)]
        return float(moocore.hypervolume(chosen, ref=[1.0, 0.0])) if len(chosen) else 0.0

    @cached_property
    def _costs(self) -> "pd.Series[float]":
        rows = self.rows
        hidden, inner = rows["hidden_size"], rows["intermediate_size"]
        weights = rows["num_hidden_layers"] * (4 * hidden**2 + 2 * hidden * inner)
        taught = rows.index != self.teacher  # which is not trained
        slope = float((rows["distil_s"] / weights)[taught].median())
        return (slope * weights / float((slope * weights).median())).where(taught, 0.0)


@dataclass
class TableEngine:
    """Does the jobs of a study by looking them up, one at a time.

    Attributes:
        table: Where.
        heard: Told what each piece of training cost.
        halts: Whether students halt at rungs.
    """

    jobs: ClassVar[int] = 1
    synchronous: ClassVar[bool] = False

    table: Table
    heard: Callable[[float], None]
    halts: bool = True
    _under_way: dict[int, tuple[Job, int]] = field(default_factory=dict, init=False)
    _next: Event | None = field(default=None, init=False)

    def start(self, task: Task, announce: Callable[[str], None]) -> None:
        """There is nothing to get ready."""

    def free(self, number: int | None = None) -> bool:  # noqa: ARG002 - it holds all of them
        return self._next is None

    def submit(self, job: Job) -> None:
        self._reach(job, 0 if self.halts else len(self.table.steps) - 1)

    def answer(self, number: int, *, goes_on: bool) -> None:
        job, at = self._under_way.pop(number)
        if goes_on:
            self._reach(job, at + 1)
        else:
            self._next = Done(self._trial(job, at, State.STOPPED))

    def wait_any(self) -> Event:
        if self._next is None:
            raise RuntimeError("nothing is worked on")
        event, self._next = self._next, None
        return event

    def close(self) -> None:
        self._under_way.clear()

    def _reach(self, job: Job, at: int) -> None:
        """Take a job to a rung, by its place among them."""
        key, steps = job.architecture.key(), self.table.steps
        before = self.table.cost(key, steps[at - 1]) if at and self.halts else 0.0
        self.heard(self.table.cost(key, steps[at]) - before)
        if at == len(steps) - 1:
            self._next = Done(self._trial(job, at, State.COMPLETE))
            return
        self._under_way[job.number] = job, at
        self._next = AtRung(job.number, steps[at], self._measured(key, steps[at]), 0)

    def _trial(self, job: Job, at: int, state: State) -> Trial:
        own, steps = job.architecture, self.table.steps
        return Trial(
            number=job.number,
            key=own.key(),
            architecture=own.fields(),
            state=state,
            measurements=self._measured(own.key(), steps[at]),
            rungs={step: self.table.values(own.key(), step)[1] for step in steps[: at + 1]},
        )

    def _measured(self, key: str, step: int) -> dict[str, Measurement]:
        values = self.table.values(key, step)
        return {name: Measurement(value) for name, value in zip(GOALS, values, strict=True)}
