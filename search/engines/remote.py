"""The far side of a worker: load the task once, then run calls as they are sent.

Run as ``python remote.py FD``, where FD is the file descriptor of a socket to the study. When the
socket closes, also because the study died, the process exits at once, even while it imports
libraries: it listens before it imports anything of protege. In a Ray cluster an actor runs `Actor`.
"""

import contextlib
import ctypes
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protege.search.engines.engine import StudyTask
    from protege.search.engines.events import Message

SPEAKS_S = 0.5
"""Minimum seconds between two messages of progress."""

ANSWERS_S = 2.0
"""Maximum seconds that an actor waits for a message before it returns none."""

_PR_SET_PDEATHSIG = 1


class Service:
    """Loads the task, runs calls on a `Worker`, and reports results, progress and warnings."""

    def __init__(self, report: "Callable[[Message], None]", task: Path, threads: int) -> None:
        import torch

        from protege.search.engines.events import Progress, WorkerReady
        from protege.search.engines.worker import Worker
        from protege.spaces import ProtegeError

        last = [0.0]

        def announce(what: str, trial: int | None = None) -> None:  # noqa: ARG001 - the pool knows
            if time.monotonic() - last[0] > SPEAKS_S:
                last[0] = time.monotonic()
                report(Progress(what))

        torch.set_num_threads(threads)
        self._report = report
        logging.getLogger("protege").addHandler(_Forward(report))
        try:
            self._worker = Worker(_loaded(task), announce)
            report(WorkerReady())
        except ProtegeError as error:
            report(error)

    def run(self, call: bytes) -> None:
        """Run a call, and report its result, or the error that ends the study.

        Args:
            call: The pickled name of a method of `Worker`, its positional and keyword arguments.
        """
        from protege.objectives.quality.timed_call import is_any_left
        from protege.search.engines.events import JobFinished, WorkerLost
        from protege.search.records.failure import Failure, plain
        from protege.search.records.trial import State, Trial

        try:
            verb, given, named = pickle.loads(call)
            found = getattr(self._worker, verb)(*given, **named)
            if isinstance(found, Trial):  # a job was measured before it begins
                known, seconds = found.measurements, found.seconds
                is_over = found.state is not State.COMPLETE
                found = (
                    JobFinished(found)
                    if is_over
                    else replace(given[0], known=known, seconds=seconds)
                )
        except MemoryError:
            raise  # ends this worker alone: another one may have enough memory
        except Exception as error:  # noqa: BLE001 - anything that fails more than one trial
            sys.stderr.write(f"{Failure.of(error).traceback}\n")
            found = plain(error)
        self._report(found)
        if is_any_left():  # the study replaces this process, which ends the function
            self._report(WorkerLost("a score's function still runs in it after its timeout_s"))


def _loaded(path: Path) -> "StudyTask":
    """Load the task.

    Raises:
        BadInput: The file is not there, or another user could have written it.
    """
    from protege.search.engines.engine import StudyTask
    from protege.spaces import BadInput

    if not path.is_file():
        raise BadInput(
            f"{path} is not visible on node {socket.gethostname()}: expected a run folder that all "
            "nodes of the cluster share; give Search(folder=...) on a network file system"
        )
    task = StudyTask.load(path)
    if task.private:
        os.umask(0o077)  # Ray starts actors, not the study
    return task


class _Forward(logging.Handler):
    """Reports log records, also as a sign of life while waiting for a lock."""

    def __init__(self, report: "Callable[[Message], None]") -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        from protege.search.engines.events import Progress

        self._report(Progress(record.getMessage(), is_warning=True))


class Actor:
    """A `Service` as a Ray actor, with its messages in a queue.

    Two calls run at once: `run`, and `messages` of the study that listens.
    """

    def __init__(self, path: Sequence[str], task: Path, threads: int) -> None:
        # the task imports modules from the same path, if it exists on this node
        sys.path += [place for place in path if place not in sys.path]
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self._service = Service(self._queue.put, task, threads)

    def run(self, call: bytes) -> None:
        """Run a call; see `Service.run`."""
        self._service.run(call)

    def messages(self) -> "list[Message]":
        """Return the messages since the last time; wait a moment if there are none."""
        found: list[Message] = []
        with contextlib.suppress(Empty):
            found.append(self._queue.get(timeout=ANSWERS_S))
            while True:
                found.append(self._queue.get_nowait())
        return found


def main() -> None:
    """Run calls until the socket closes."""
    # schedulers signal every process of a job, but the study ends this one. A handler, not
    # SIG_IGN, which child processes would inherit
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # a process that is stopped or stuck in a library does not see the socket close
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    line = Connection(socket.socket(fileno=int(sys.argv[1])).detach())
    path, task, threads = line.recv()
    sys.path[:] = path
    calls: SimpleQueue[bytes] = SimpleQueue()
    # a separate thread listens, so that work does not outlive the study; it unpickles nothing:
    # importing in two threads may find modules half imported
    threading.Thread(target=_listen, args=(line, calls), daemon=True).start()
    service = Service(line.send, task, threads)
    while True:
        service.run(calls.get())


def _listen(line: Connection, calls: "SimpleQueue[bytes]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            calls.put(line.recv_bytes())
    os._exit(1)


if __name__ == "__main__":
    main()
