"""A process that works on jobs for a study, and the line to it."""

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
"""It may be silent for so long until its libraries and its task are loaded."""


@dataclass
class Process:
    """One worker's process.

    Attributes:
        task: The file that its task is loaded from.
        log: Where what it prints goes.
        threads: How many it computes with.
        at: The job it is at work on; none while it waits.
        held: Jobs of its that have halted.
        heard: When it last gave a sign of life, in seconds of the monotonic clock.
        ready: Whether its task is loaded; before that it is at work on nothing.
    """

    task: Path
    log: Path
    threads: int
    at: int | None = field(default=None, init=False)
    held: set[int] = field(default_factory=set, init=False)
    heard: float = field(default_factory=time.monotonic, init=False)
    ready: bool = field(default=False, init=False)
    line: Connection = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        ours, theirs = socket.socketpair()
        # -P: a file beside the user's script must not pass for a library of the same name; a file
        # and no module: it listens before it imports anything. A session of its own: Ctrl-C is for
        # the study, which ends its workers in order
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
        # as it is here: what the task is made of is imported there from the same places
        self.send((sys.path, self.task, self.threads))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Tell it something; if it is gone that shows when it is next listened to."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.line.send(message)

    def kill(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self.line.close()

    def overdue(self, silence_s: float) -> float:
        """When it has been silent for too long, in seconds of the monotonic clock."""
        return self.heard + (silence_s if self.ready else max(silence_s, STARTING_S))

    @property
    def gave_up(self) -> bool:
        """Whether it has ended by itself, and nobody else has ended it."""
        return (self._process.returncode or 0) > 0

    def losses(self, reason: str = "") -> list[Died]:
        """What its end means for the jobs it had.

        Args:
            reason: Why it was ended from here, if it was.
        """
        at, held = self.at, sorted(self.held)
        reason = reason or self._last_words()  # waits until it is told what the end was
        found = [] if at is None else [Died(at, reason if self.ready else "")]
        return found + [Died(number, "") for number in held]

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"its process ended with exit code {code}: {self.said}"
        told = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if told == "SIGKILL" else ""
        return f"its process was ended by {told}{hint}"

    @property
    def said(self) -> str:
        """The last line that it printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


def _threads(count: int) -> dict[str, str]:
    """How libraries are told how many threads to start, before they are imported."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, str(count))
