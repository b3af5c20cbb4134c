"""The fork server of this process: started on first use, shared by threads, closed at exit."""

import atexit
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from protege.objectives.latency.job import MeasuringJob
from protege.objectives.machine.lock import exclusive_machine
from protege.spaces.errors import Unsupported
from protege.spaces.files.private import made_private, private_folder

INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable with the cache folder of `torch.compile`."""


class ForkServer:
    """A process that has imported torch and transformers and forks a child for every job.

    `multiprocessing` has one too, whose children would import the user's script again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None if it is not running."""
        return self._process.pid if self._process else None

    def exchange(self, job: MeasuringJob) -> dict[str, Any]:
        """Run a job in a fresh process, one at a time among all of the user's processes.

        Returns:
            The ``trace``, ``memory`` or ``energy``, or why the job ``failed`` or was
            ``interrupted``.

        Raises:
            Unsupported: The platform cannot fork.
        """
        if not hasattr(os, "fork"):
            raise Unsupported("latency is measured in forked processes, which this platform lacks")
        with self._lock:
            connection = self._connection or self._started()  # before the machine is locked
            try:
                with exclusive_machine():
                    answer = _answer(connection, job)
            except BaseException:
                self.close()  # a late answer would be read as that of the next job
                raise
            if answer is None:
                self.close()
            return answer or {"interrupted": "the fork server ended"}

    def _started(self) -> Connection:
        ours, theirs = socket.socketpair()
        # -P: files beside the user's script must not shadow libraries. New session: Ctrl-C reaches
        # only the study, which then closes the server; and with autogroups the kernel scheduler
        # gives the server its own share.
        module = "protege.objectives.latency.local.fork_worker"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                # by default the compiler's cache is where another user could plant code
                env={INDUCTOR: str(made_private(private_folder() / "inductor"))} | os.environ,
            )
        self._connection = Connection(ours.detach())
        return self._connection

    def close(self) -> None:
        """End the server and its child if it is running."""
        process = self._process
        self.forget()
        if process is not None:
            process.kill()
            process.wait()

    def forget(self) -> None:
        """Leave the server to the parent process; called after a fork."""
        if self._connection is not None:
            # an open copy would hide the parent's exit from the server
            self._connection.close()
        self._process = self._connection = None

    def after_fork(self) -> None:
        """Start with an unlocked lock and no server in a forked process."""
        self._lock = threading.Lock()
        self.forget()


def _answer(connection: Connection, job: MeasuringJob) -> dict[str, Any] | None:
    """Send a job and wait for the answer without polling; None if the server died."""
    try:
        connection.send(job)
        return dict(connection.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return None


SERVER = ForkServer()
"""The fork server of this process."""

atexit.register(SERVER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SERVER.after_fork)
