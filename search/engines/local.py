"""The local engine: jobs in parallel processes on this machine."""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from protege.objectives.latency.device.receiving import available_cores
from protege.search.engines.engine import AtRung, Done, Event, Job, Warned
from protege.search.engines.process import Process
from protege.search.engines.task import Task, prepare
from protege.search.engines.working import READY
from protege.spaces import BadInput
from protege.spaces.files.atomic import remove

logger = logging.getLogger("protege")

STARTS = 5
"""Consecutive worker processes that may end before they are ready."""


@dataclass
class LocalEngine:
    """Runs several jobs in parallel on this machine, one process each.

    While one process measures latency all others pause (`protege.objectives.lease`).

    Attributes:
        jobs: Number of parallel jobs.
        threads: Threads per job; by default the cores divided by the jobs.
        synchronous: Whether all running jobs halt before any of them goes on, so that a seed
            determines the trials.
        silence_s: Seconds without a sign of life after which a process is killed.

    Raises:
        BadInput: A number is not above 0.
    """

    jobs: int = 2
    threads: int | None = None
    synchronous: bool = False
    silence_s: float = 900.0

    _crew: list[Process] = field(default_factory=list, init=False, repr=False)
    _lost: deque[Event] = field(default_factory=deque, init=False, repr=False)
    _task: Path | None = field(default=None, init=False, repr=False)
    _announce: Callable[[str], None] = field(default=lambda _: None, init=False, repr=False)
    _has_started: bool = field(default=False, init=False, repr=False)
    """Whether any process became ready."""
    _stillborn: int = field(default=0, init=False, repr=False)
    """Consecutive processes that ended before they were ready."""

    def __post_init__(self) -> None:
        for name in ("jobs", "threads", "silence_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name}={value!r}: expected a number above 0")

    def start(self, task: Task, announce: Callable[[str], None]) -> None:
        self._task, self._announce = prepare(task.folder), announce
        self._has_started, self._stillborn = False, 0
        for number in range(self.jobs):
            self._log(self._task, number).unlink(missing_ok=True)
        task.save(self._task)
        self._crew = [self._started(self._task, number) for number in range(self.jobs)]

    def free(self, number: int | None = None) -> bool:
        if number is None:
            return any(one.at is None for one in self._crew)
        holder = self._holder(number)
        # if its process is gone, `wait_any` reports the loss
        return holder is None or holder.at is None

    def submit(self, job: Job) -> None:
        # the process with the fewest held jobs, as a job goes on where it is held
        one = min((p for p in self._crew if p.at is None), key=lambda process: len(process.held))
        self._begin(one, job.number)
        one.send(("begin", (job,), {}))

    def answer(self, number: int, *, goes_on: bool) -> None:
        one = self._holder(number)
        if one is None:
            return  # its process is gone; `wait_any` reports the loss
        one.held.discard(number)
        self._begin(one, number)
        one.send(("go_on", (number,), {"goes_on": goes_on}))

    def wait_any(self) -> Event:
        while not self._lost:
            working = [one for one in self._crew if one.at is not None]
            if not working:
                raise RuntimeError("no job is running")
            silent_s = min(one.overdue(self.silence_s) for one in working) - time.monotonic()
            heard = wait([one.line for one in self._crew], timeout=max(0.0, silent_s))
            for one in [one for one in self._crew if one.line in heard]:
                event = self._hear(one)
                if event is not None:
                    return event
            self._end_silent()
        return self._lost.popleft()

    def close(self) -> None:
        for one in self._crew:
            one.kill()
        self._crew = []
        self._lost.clear()
        task, self._task = self._task, None
        if task is not None:
            remove(task)

    def _started(self, task: Path, number: int) -> Process:
        threads = self.threads or max(1, len(available_cores()) // self.jobs)
        return Process(task, self._log(task, number), threads)

    @staticmethod
    def _log(task: Path, number: int) -> Path:
        return task.with_name(f"worker-{number}.log")

    def _holder(self, number: int) -> Process | None:
        """Return the process that holds a halted job, or None if it is gone."""
        return next((one for one in self._crew if number in one.held), None)

    def _begin(self, one: Process, number: int) -> None:
        one.at, one.heard = number, time.monotonic()

    def _hear(self, one: Process) -> AtRung | Done | None:
        """Receive a message; return it if the job halted or ended, else handle it."""
        try:
            said = one.line.recv()
        except (EOFError, OSError):
            self._lose(one)
            return None
        one.heard = time.monotonic()
        if isinstance(said, Exception):
            raise said
        if isinstance(said, AtRung | Done):
            one.at = None
            if isinstance(said, AtRung):
                one.held.add(said.number)
            return said
        if isinstance(said, Warned):
            logger.warning("trial %s: %s", one.at, said.text)
        elif said == READY:
            one.ready = self._has_started = True
            self._stillborn = 0
        else:
            self._announce(f"trial {one.at}: {said}")
        return None

    def _end_silent(self) -> None:
        """Kill the process that has been silent longest, if for too long."""
        now = time.monotonic()
        working = [one for one in self._crew if one.at is not None]
        if not working:
            return
        one = min(working, key=lambda process: process.overdue(self.silence_s))
        if now > one.overdue(self.silence_s):
            self._lose(one, f"its process gave no sign of life for {self.silence_s:g} s")
            for other in self._crew:  # they may have waited for its lock
                other.heard = now

    def _lose(self, one: Process, reason: str = "") -> None:
        """Report the losses of a process and replace it.

        Raises:
            BadInput: No worker can start.
        """
        number = self._crew.index(one)
        self._lost += one.losses(reason)
        one.kill()
        if not one.ready:
            self._stillborn += 1
            gave_up = one.gave_up and not self._has_started
            if gave_up or self._stillborn >= STARTS:
                raise BadInput(f"no worker could start: {one.said}; see {one.log}")
        self._crew[number] = self._started(one.task, number)
