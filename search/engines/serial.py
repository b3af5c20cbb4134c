"""The serial engine: one job after another in the study's process."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from protege.search.engines.engine import AtRung, Done, Event, Job
from protege.search.engines.task import Task
from protege.search.engines.worker import Worker


@dataclass
class SerialEngine:
    """Runs one job at a time in the study's process."""

    jobs: ClassVar[int] = 1
    synchronous: ClassVar[bool] = False

    _worker: Worker | None = field(default=None, init=False)
    _next: Callable[[Worker], AtRung | Done] | None = field(default=None, init=False)

    def start(self, task: Task, announce: Callable[[str], None]) -> None:
        self._worker = Worker(task, announce)

    def free(self, number: int | None = None) -> bool:  # noqa: ARG002 - it holds all of them
        return self._next is None

    def submit(self, job: Job) -> None:
        self._next = lambda worker: worker.begin(job)

    def answer(self, number: int, *, goes_on: bool) -> None:
        self._next = lambda worker: worker.go_on(number, goes_on=goes_on)

    def wait_any(self) -> Event:
        if self._worker is None or self._next is None:
            raise RuntimeError("no job is running")
        work, self._next = self._next, None
        return work(self._worker)

    def close(self) -> None:
        self._worker = self._next = None
