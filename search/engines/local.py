"""The engines of this machine: jobs one after another, or in parallel processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.latency.device.receiving import available_cores
from protege.search.engines import remote
from protege.search.engines.engine import StudyTask, prepare
from protege.search.engines.events import (
    Announce,
    Event,
    Job,
    JobFinished,
    Message,
    RungReached,
    WorkerLost,
)
from protege.search.engines.pool import PooledEngine, WorkerPool
from protege.search.engines.worker import Worker
from protege.spaces import BadInput
from protege.spaces.arguments import checks_fields


@dataclass
class SerialEngine:
    """Runs one job at a time in the study's process."""

    synchronous: ClassVar[bool] = False

    _worker: Worker | None = field(default=None, init=False)
    _next: Callable[[Worker], RungReached | JobFinished] | None = field(default=None, init=False)

    def start(self, task: StudyTask, announce: Announce) -> None:
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


@checks_fields
@dataclass
class LocalEngine(PooledEngine):
    """Runs several jobs in parallel on this machine, one process each.

    While one process measures latency all others pause (`protege.objectives.machine.lock`).

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
    _pool: WorkerPool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("jobs", "threads", "silence_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name}={value!r}: expected a number above 0")
        self._pool = WorkerPool(wait, self.silence_s, sends_early=True)

    def start(self, task: StudyTask, announce: Announce) -> None:
        path = prepare(task.folder)
        threads = self.threads or max(1, len(available_cores()) // self.jobs)
        logs = [path.with_name(f"worker-{number}.log") for number in range(self.jobs)]
        for log in logs:
            log.unlink(missing_ok=True)
        task.save(path)
        self._pool.start(path, announce, [LocalWorker(path, threads, log) for log in logs])


@dataclass
class LocalWorker:
    """The connection to a worker process on this machine.

    Attributes:
        task: The task file.
        threads: Number of compute threads.
        log: The file that the output of the process is appended to.
    """

    task: Path
    threads: int
    log: Path
    sources: Sequence[Connection] = field(default=(), init=False)
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        # -P: a file beside the user's script must not shadow a library. A file, not a module: it
        # listens before it imports anything. Its own session: Ctrl-C goes to the study alone,
        # which ends its workers in order
        command = [sys.executable, "-P", remote.__file__]
        with self.log.open("ab") as log, theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | _limits(self.threads),
                start_new_session=True,
            )
        self.sources = [Connection(ours.detach())]
        self._send((sys.path, self.task, self.threads))

    def send(self, verb: str, *given: Any, **named: Any) -> None:
        self._send((verb, given, named))

    def receive(self, source: Connection) -> list[Message]:
        try:
            return [source.recv()]
        except (EOFError, OSError):
            return [self._lost()]

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for line in self.sources:
            line.close()
        self.sources = ()

    def _send(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sources[0].send(message)

    def _lost(self) -> WorkerLost:
        """Say how the process ended."""
        code = None
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(timeout=5)
        if code is None or code >= 0:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines else "it printed nothing"
            return WorkerLost(f"its process ended with exit code {code}: {said}", failed=bool(code))
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return WorkerLost(f"its process was ended by {name}{hint}")


def _limits(threads: int) -> dict[str, str]:
    """Return the environment variables that limit the threads of libraries."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
