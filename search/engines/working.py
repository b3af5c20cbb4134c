"""Main program of a worker process: load the task once, then run jobs as they are sent.

Run as ``python working.py FD``, where FD is the file descriptor of a socket to the study. When the
socket closes, also because the study died, the process exits at once, even while it imports
libraries: it listens before it imports anything of protege.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

READY = "ready"
"""Message sent once the task is loaded."""

SPEAKS_S = 0.5
"""Minimum seconds between two progress messages."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run jobs until the socket closes."""
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
    messages: SimpleQueue[bytes] = SimpleQueue()
    # a separate thread listens, so that work does not outlive the study
    threading.Thread(target=_listen, args=(line, messages), daemon=True).start()
    worker = _worker(line, task, threads)
    line.send(READY)
    try:
        while True:
            # unpickled here: importing in two threads may find modules half imported
            verb, given, named = pickle.loads(messages.get())
            line.send(getattr(worker, verb)(*given, **named))
    except MemoryError:
        raise  # ends this process alone: another one may have enough memory
    except Exception as error:
        from protege.search.records.failure import plain

        line.send(plain(error))
        raise


def _worker(line: Connection, task: Any, threads: int) -> Any:
    import logging

    import torch

    from protege.search.engines.engine import Warned
    from protege.search.engines.task import Task
    from protege.search.engines.worker import Worker

    torch.set_num_threads(threads)
    last = [0.0]

    def announce(what: str) -> None:
        if time.monotonic() - last[0] > SPEAKS_S:
            last[0] = time.monotonic()
            line.send(what)

    class Forward(logging.Handler):
        """Sends log records to the study, also as a sign of life while waiting for a lock."""

        def emit(self, record: logging.LogRecord) -> None:
            line.send(Warned(record.getMessage()))

    logging.getLogger("protege").addHandler(Forward(logging.WARNING))
    return Worker(Task.load(task), announce)


def _listen(line: Connection, messages: "SimpleQueue[bytes]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            messages.put(line.recv_bytes())
    os._exit(1)


if __name__ == "__main__":
    main()
