"""A local worker process, and the connection to it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from protege.search.engines import working
from protege.search.engines.engine import Died

STARTING_S = 300.0
"""Seconds of silence allowed while libraries and task load."""


@dataclass
class Process:
    """One worker process.

    Attributes:
        task: The task file.
        log: The file for its output.
        threads: Number of compute threads.
        at: Number of the running job, or None.
        held: Numbers of its halted jobs.
        heard: Time of its last message, in seconds of the monotonic clock.
        ready: Whether its task is loaded.
        line: The connection.
    """

    task: Path
    log: Path
    threads: int
    at: int | None = field(default=None, init=False)
    held: set[int] = field(default_factory=set, init=False)
    heard: float = field(default_factory=time.monotonic, init=False)
    ready: bool = field(default=False, init=False)
    line: Connection = field(init=False)
    _process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        ours, theirs = socket.socketpair()
        # -P: a file beside the user's script must not shadow a library. A file, not a module: it
        # listens before it imports anything. Its own session: Ctrl-C goes to the study alone,
        # which ends its workers in order
        command = [sys.executable, "-P", working.__file__]
        with self.log.open("ab") as log, theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | _threads(self.threads),
                start_new_session=True,
            )
        self.line = Connection(ours.detach())
        # the task imports modules from the same path
        self.send((sys.path, self.task, self.threads))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message; a lost connection shows when the next message is received."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.line.send(message)

    def kill(self) -> None:
        """Kill the process and close the connection."""
        self._process.kill()
        self._process.wait()
        self.line.close()

    def overdue(self, silence_s: float) -> float:
        """Return when its silence becomes too long, in seconds of the monotonic clock."""
        return self.heard + (silence_s if self.ready else max(silence_s, STARTING_S))

    @property
    def gave_up(self) -> bool:
        """Whether it exited by itself with an error, not by a signal."""
        return (self._process.returncode or 0) > 0

    def losses(self, reason: str = "") -> list[Died]:
        """Return the loss of each of its jobs.

        Args:
            reason: Why the engine killed it, if it did.
        """
        at, held = self.at, sorted(self.held)
        reason = reason or self._last_words()  # waits for the exit code
        found = [] if at is None else [Died(at, reason if self.ready else "")]
        return found + [Died(number, "") for number in held]

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"its process ended with exit code {code}: {self.said}"
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"

    @property
    def said(self) -> str:
        """The last line of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


def _threads(count: int) -> dict[str, str]:
    """Return the environment variables that limit the threads of libraries."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, str(count))
