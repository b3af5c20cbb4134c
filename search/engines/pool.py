"""The pool of workers that the engines with several processes share."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from protege.search.engines.events import (
    Announce,
    Event,
    Job,
    JobFinished,
    JobLost,
    Message,
    Progress,
    RungReached,
    WorkerLost,
    WorkerReady,
    unheard,
)
from protege.spaces import BadInput
from protege.spaces.files.atomic import remove

logger = logging.getLogger("protege")

STARTS = 5
"""Consecutive workers that may be lost before they are ready."""

STARTING_S = 300.0
"""Seconds of silence allowed while libraries and task load."""


class Transport(Protocol):
    """The connection to one worker, which runs calls of `protege.search.engines.worker.Worker`."""

    @property
    def sources(self) -> Sequence[Any]:
        """What the pool waits for to hear of the worker."""

    @property
    def log(self) -> Path | str:
        """Where the output of the worker is."""

    def start(self) -> None:
        """Start a worker, which loads the task."""

    def send(self, verb: str, *given: Any, **named: Any) -> None:
        """Start a call. If the connection is lost, `receive` says so."""

    def receive(self, source: Any) -> Iterable[Message]:
        """Return the messages of a source that has some."""

    def kill(self) -> None:
        """End the worker, if it runs."""


@dataclass(eq=False)
class PooledWorker:
    """A worker of the pool.

    Attributes:
        transport: The connection to it.
        measures: Whether it measures jobs before they begin, and does nothing else.
        job: Number of the running job, or None.
        halted: Numbers of the jobs that it holds at a rung.
        heard: Time of its last message, in seconds of the monotonic clock.
        is_ready: Whether it has loaded the task.
    """

    transport: Transport
    measures: bool = False
    job: int | None = None
    halted: set[int] = field(default_factory=set)
    heard: float = 0.0
    is_ready: bool = False

    def start(self) -> None:
        """Start it, without jobs."""
        self.job, self.is_ready, self.heard = None, False, time.monotonic()
        self.halted.clear()
        self.transport.start()

    def call(self, verb: str, number: int, *given: Any, **named: Any) -> None:
        """Start a call that runs a job."""
        self.job, self.heard = number, time.monotonic()
        self.halted.discard(number)
        self.transport.send(verb, *given, **named)

    def overdue(self, silence_s: float) -> float:
        """Return when its silence becomes too long, in seconds of the monotonic clock."""
        return self.heard + (silence_s if self.is_ready else max(silence_s, STARTING_S))


@dataclass
class WorkerPool:
    """Gives jobs to workers, listens to them, and replaces those that are lost or silent.

    `free`, `submit`, `answer` and `wait_any` are those of `Engine`.

    Attributes:
        wait: Returns the sources that have messages; waits for some at most that many seconds.
        silence_s: Seconds without a message after which a working worker is killed.
        sends_early: Whether jobs are sent to workers that are still starting.
        workers: The workers.
    """

    wait: Callable[[Sequence[Any], float], Sequence[Any]]
    silence_s: float
    sends_early: bool
    workers: list[PooledWorker] = field(default_factory=list, init=False)
    _task: Path | None = field(default=None, init=False)
    _announce: Announce = field(default=unheard, init=False)
    _queue: list[tuple[str, Job]] = field(default_factory=list, init=False)
    """Calls that wait for a worker."""
    _events: deque[Event] = field(default_factory=deque, init=False)
    _has_started: bool = field(default=False, init=False)
    """Whether any worker became ready."""
    _failures: int = field(default=0, init=False)
    """Consecutive workers that were lost before they were ready."""

    def start(
        self,
        task: Path,
        announce: Announce,
        transports: Iterable[Transport],
        measurer: Transport | None = None,
    ) -> None:
        """Start the workers.

        Args:
            task: The task file, which `close` removes.
            announce: Called with the current phase.
            transports: A connection for each worker.
            measurer: The connection to one more worker, if there is one, on which jobs begin with
                the objectives that need no training.
        """
        self._task, self._announce = task, announce
        self._has_started, self._failures = False, 0
        self.workers = [PooledWorker(one) for one in transports]
        self.workers += [PooledWorker(measurer, measures=True)] if measurer else []
        for worker in self.workers:
            worker.start()

    def free(self, number: int | None = None) -> bool:
        # if no job runs, a worker is about to start
        while not (idle := self._idle()) and not self._is_busy:
            self._announce("waiting for a worker to start")
            self._listen()
        # queued and measured jobs will need a worker
        ahead = len(self._queue) + sum(worker.measures for worker in self._working)
        holder = None if number is None else self._holder(number)
        if number is not None and holder is None:
            return True  # its worker is gone, as `wait_any` reports
        return len(idle) > ahead and (holder is None or holder in idle)

    def submit(self, job: Job) -> None:
        measures = not job.known and any(worker.measures for worker in self.workers)
        self._queue.append(("measure" if measures else "begin", job))
        self._dispatch()

    def answer(self, number: int, *, goes_on: bool) -> None:
        holder = self._holder(number)
        if holder is not None:  # else its worker is gone, as `wait_any` reports
            holder.call("go_on", number, number, goes_on=goes_on)

    def wait_any(self) -> Event:
        while not self._events:
            if not self._is_busy:
                raise RuntimeError("no job is running")
            self._listen()
        return self._events.popleft()

    def close(self) -> None:
        """Kill the workers, forget their jobs and remove the task file."""
        for worker in self.workers:
            worker.transport.kill()
        self._queue.clear()
        self._events.clear()
        task, self._task = self._task, None
        if task is not None:
            remove(task)

    @property
    def _working(self) -> list[PooledWorker]:
        return [worker for worker in self.workers if worker.job is not None]

    @property
    def _is_busy(self) -> bool:
        """Whether an event will come."""
        return bool(self._working or self._queue or self._events)

    def _idle(self, *, measures: bool = False) -> list[PooledWorker]:
        """Return the idle workers, those that hold the fewest jobs first."""
        found = [
            worker
            for worker in self.workers
            if worker.measures == measures
            and worker.job is None
            and (worker.is_ready or self.sends_early)
        ]
        return sorted(found, key=lambda worker: len(worker.halted))

    def _holder(self, number: int) -> PooledWorker | None:
        """Return the worker that holds a halted job, or None if it is gone."""
        return next((worker for worker in self.workers if number in worker.halted), None)

    def _dispatch(self) -> None:
        """Give queued jobs to idle workers."""
        queue, self._queue = self._queue, []
        for verb, job in queue:
            if idle := self._idle(measures=verb == "measure"):
                idle[0].call(verb, job.number, job)
            else:
                self._queue.append((verb, job))

    def _listen(self) -> None:
        """Wait for messages and handle them; replace a worker that is silent for too long."""
        found = {source: worker for worker in self.workers for source in worker.transport.sources}
        ends = [worker.overdue(self.silence_s) for worker in self._working]
        left_s = min(ends, default=math.inf) - time.monotonic()
        for source in self.wait([*found], min(max(left_s, 0.0), self.silence_s)):
            for message in found[source].transport.receive(source):
                self._handle(found[source], message)
        silent = min(self._working, key=lambda one: one.overdue(self.silence_s), default=None)
        if silent is not None and silent.overdue(self.silence_s) < time.monotonic():
            self._lose(
                silent, WorkerLost(f"its worker gave no sign of life for {self.silence_s:g} s")
            )
            for other in self.workers:  # they may have waited for its lock
                other.heard = time.monotonic()
        self._dispatch()

    def _handle(self, worker: PooledWorker, message: Message) -> None:
        """Handle a message of a worker.

        Raises:
            ProtegeError: The message is this error, which ends the study.
        """
        worker.heard = time.monotonic()
        match message:
            case WorkerReady():
                worker.is_ready = self._has_started = True
                self._failures = 0
            case Progress(text, is_warning) if not is_warning:
                self._announce(text, worker.job)
            case Progress(text):
                logger.warning(text if worker.job is None else f"trial {worker.job}: {text}")
            case WorkerLost():
                self._lose(worker, message)
            case Job():
                worker.job = None
                self._queue.append(("begin", message))
            case RungReached() | JobFinished():
                worker.job = None
                self._events.append(message)
                if isinstance(message, RungReached):
                    worker.halted.add(message.number)
            case error:
                raise error

    def _lose(self, worker: PooledWorker, lost: WorkerLost) -> None:
        """Report the jobs that a lost worker had, and start another one.

        Raises:
            BadInput: No worker can start.
        """
        if worker.job is not None:
            self._events.append(JobLost(worker.job, lost.reason if worker.is_ready else ""))
        self._events += [JobLost(number, "") for number in sorted(worker.halted)]
        worker.transport.kill()
        if not worker.is_ready:
            self._failures += 1
            if self._failures >= STARTS or (lost.failed and not self._has_started):
                log = worker.transport.log
                raise BadInput(f"no worker could start: {lost.reason}; see {log}")
        worker.start()


class PooledEngine:
    """An engine whose jobs run in a pool of workers; base of those with several processes."""

    _pool: WorkerPool

    def free(self, number: int | None = None) -> bool:
        return self._pool.free(number)

    def submit(self, job: Job) -> None:
        self._pool.submit(job)

    def answer(self, number: int, *, goes_on: bool) -> None:
        self._pool.answer(number, goes_on=goes_on)

    def wait_any(self) -> Event:
        return self._pool.wait_any()

    def close(self) -> None:
        self._pool.close()
