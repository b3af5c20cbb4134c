"""What a worker's process does: it loads its task once, then works on what it is told to.

Run as ``python working.py FD``, where the file descriptor is that of a socket to the study. The end
of the socket, which is also what the death of the study looks like, ends the process whatever it is
at, the loading of libraries included: nothing of protege is imported before it listens.
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
"""What it says once, when its task is loaded."""

SPEAKS_S = 0.5
"""It says what it is at so often at most."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Work on jobs until the socket ends."""
    # a scheduler sends them to every process of a job: they are for the study, which ends this one.
    # A handler, not SIG_IGN, which every program that is started from here would inherit
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # one that is stopped, or stuck in a library, sees no end of a socket
    with contextlib.suppress(OSError, AttributeError):  # where the kernel knows of no such thing
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    line = Connection(socket.socket(fileno=int(sys.argv[1])).detach())
    path, task, threads = line.recv()
    sys.path[:] = path
    told: SimpleQueue[bytes] = SimpleQueue()
    # a thread of its own listens: work must not outlive whoever asked for it
    threading.Thread(target=_listen, args=(line, told), daemon=True).start()
    worker = _worker(line, task, threads)
    line.send(READY)
    try:
        while True:
            # here, for it may import what the other thread would find half imported
            verb, given, named = pickle.loads(told.get())
            line.send(getattr(worker, verb)(*given, **named))
    except MemoryError:
        raise  # the end of this process alone: another one may have room
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

    class Told(logging.Handler):
        """Tells the study what is logged: that it waits for a lock, too, is a sign of life."""

        def emit(self, record: logging.LogRecord) -> None:
            line.send(Warned(record.getMessage()))

    logging.getLogger("protege").addHandler(Told(logging.WARNING))
    return Worker(Task.load(task), announce)


def _listen(line: Connection, told: "SimpleQueue[bytes]") -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            told.put(line.recv_bytes())
    os._exit(1)


if __name__ == "__main__":
    main()
