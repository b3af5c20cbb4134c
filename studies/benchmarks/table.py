"""A fully measured space, on which searches can be simulated without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import moocore
import numpy as np
import pandas as pd

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.engines.engine import StudyTask
from protege.search.engines.events import Event, Job, JobFinished, RungReached

OBJECTIVES = ("latency_ms", "retention")
"""The objectives: the first is minimised, the second maximised."""

QUALITY = "retention_"
"""The prefix of the columns of the second objective; the rung's steps follow."""


@dataclass(frozen=True)
class Table:
    """The measurements of every student of a space.

    Attributes:
        rows: Sizes, ``latency_ms``, ``retention_<steps>`` and ``distil_s``, by key.
        teacher: The teacher's key.
    """

    rows: pd.DataFrame
    teacher: str

    @cached_property
    def steps(self) -> list[int]:
        """The rungs in ascending order; the last is the end of training."""
        ends = (str(name).removeprefix(QUALITY) for name in self.rows)
        return sorted(int(end) for end in ends if end.isdecimal())

    def values(self, key: str, step: int | None = None) -> list[float]:
        """Return a student's objectives at a rung; at the end if it is None."""
        steps = self.steps[-1] if step is None else step
        found = self.rows.loc[key, ["latency_ms", f"{QUALITY}{steps}"]]
        return [*found.to_numpy(dtype=float)]

    def cost(self, key: str, step: int | None = None) -> float:
        """Return the cost of training a student up to a rung or the end, 1 for a median student.

        Because the seconds were measured on a busy machine, the cost is proportional to the weights
        of the student's layers, with the median slope.
        """
        share = 1.0 if step is None else step / self.steps[-1]
        return float(share * self._costs[key])

    def volume(self, keys: Sequence[str]) -> float:
        """Return the hypervolume of these students as a share of the whole space's.

        As in `ObjectiveRecords.hypervolume`, values are relative to the teacher, and the reference
        point is the teacher's latency at zero quality.
        """
        return self._volume([self._numbers[key] for key in keys]) / self._whole

    @cached_property
    def _points(self) -> Any:
        """Each student's objectives relative to the teacher, to be minimised."""
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
        taught = rows.index != self.teacher  # the teacher is not trained
        slope = float((rows["distil_s"] / weights)[taught].median())
        return (slope * weights / float((slope * weights).median())).where(taught, 0.0)


@dataclass
class TableEngine:
    """An engine that looks up results in a table, one job at a time.

    Attributes:
        table: The measured space.
        heard: Called with the cost of each stretch of training.
        halts: Whether students halt at rungs.
    """

    jobs: ClassVar[int] = 1
    synchronous: ClassVar[bool] = False

    table: Table
    heard: Callable[[float], None]
    halts: bool = True
    _under_way: dict[int, tuple[Job, int]] = field(default_factory=dict, init=False)
    _next: Event | None = field(default=None, init=False)

    def start(self, task: StudyTask, announce: Callable[[str], None]) -> None:
        """No-op: there is nothing to prepare."""

    def free(self, number: int | None = None) -> bool:  # noqa: ARG002 - it holds all jobs
        return self._next is None

    def submit(self, job: Job) -> None:
        self._reach(job, 0 if self.halts else len(self.table.steps) - 1)

    def answer(self, number: int, *, goes_on: bool) -> None:
        job, at = self._under_way.pop(number)
        if goes_on:
            self._reach(job, at + 1)
        else:
            self._next = JobFinished(self._trial(job, at, State.STOPPED))

    def wait_any(self) -> Event:
        if self._next is None:
            raise RuntimeError("no job is running")
        event, self._next = self._next, None
        return event

    def close(self) -> None:
        self._under_way.clear()

    def _reach(self, job: Job, at: int) -> None:
        """Advance a job to the rung of that index."""
        key, steps = job.architecture.key(), self.table.steps
        before = self.table.cost(key, steps[at - 1]) if at and self.halts else 0.0
        self.heard(self.table.cost(key, steps[at]) - before)
        if at == len(steps) - 1:
            self._next = JobFinished(self._trial(job, at, State.COMPLETE))
            return
        self._under_way[job.number] = job, at
        self._next = RungReached(job.number, steps[at], self._measured(key, steps[at]), 0)

    def _trial(self, job: Job, at: int, state: State) -> Trial:
        own, steps = job.architecture, self.table.steps
        return Trial(
            number=job.number,
            key=own.key(),
            architecture=own.fields(),
            state=state,
            measurements=self._measured(own.key(), steps[at]),
            rungs={
                step: {"retention": self.table.values(own.key(), step)[1]}
                for step in steps[: at + 1]
            },
        )

    def _measured(self, key: str, step: int) -> dict[str, Measurement]:
        values = self.table.values(key, step)
        return {name: Measurement(value) for name, value in zip(OBJECTIVES, values, strict=True)}
