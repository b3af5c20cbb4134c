"""The fork server of this process: started on first use, shared by threads, closed at exit."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from protege.objectives.latency.device.main import FRAME
from protege.objectives.latency.job import Job
from protege.objectives.lease import exclusive_machine
from protege.spaces.errors import Unsupported
from protege.spaces.files.private import made_private, private_folder

INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable with the cache folder of `torch.compile`."""


class ForkServer:
    """The fork server process and the pipes to it."""

    def __init__(self) -> None:
        # -P: files beside the user's script must not shadow libraries. New session: Ctrl-C reaches
        # only the study, which then closes the server; and with autogroups the kernel scheduler
        # gives the server its own share.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "protege.objectives.latency.local.fork_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env=os.environ | _compiled_in(),
        )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def exchange(self, job: Job) -> dict[str, Any] | None:
        """Send a job and wait for the answer; None if the server died. Blocks without polling."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        try:
            stdin.write(json.dumps(job.record()) + "\n")
            stdin.flush()
        except BrokenPipeError:
            return None
        for line in stdout:
            if line.startswith(FRAME):
                return dict(json.loads(line.removeprefix(FRAME)))
        return None

    def close(self) -> None:
        """Kill the server, which also ends its child."""
        self.let_go()
        self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # the server may have died with a job unread
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _compiled_in() -> dict[str, str]:
    """Return the environment that puts the cache of `torch.compile` into a private folder.

    Its default is a predictable name under the temporary folder, where another user could plant
    code.

    Raises:
        BadInput: Another user can write to the folder.
    """
    if INDUCTOR in os.environ:
        return {}
    return {INDUCTOR: str(made_private(private_folder() / "inductor"))}


class _Shared:
    """The fork server of this process, with a lock between threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.server: ForkServer | None = None

    def ready(self) -> ForkServer:
        """Return the server; start it if it is not running."""
        if self.server is None:
            self.server = ForkServer()
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self.forget)
        return self.server

    def close(self) -> None:
        """End the server if it is running."""
        server, self.server = self.server, None
        if server is not None:
            server.close()

    def forget(self) -> None:
        """After a fork, leave the server to the parent process."""
        self.lock = threading.Lock()
        server, self.server = self.server, None
        if server is not None:
            # an open copy of the pipe would hide the parent's exit from the server
            server.let_go()


_SHARED = _Shared()


def exchange(job: Job) -> dict[str, Any]:
    """Run a job in a fresh process, one at a time among all of the user's processes.

    Returns:
        The ``trace``, ``memory`` or ``energy``, or why the job ``failed`` or was ``interrupted``.

    Raises:
        Unsupported: The platform cannot fork.
    """
    if not hasattr(os, "fork"):
        raise Unsupported("latency is measured in forked processes, which this platform lacks")
    with _SHARED.lock:
        server = _SHARED.ready()  # started before the machine is locked
        try:
            with exclusive_machine():
                answer = server.exchange(job)
        except BaseException:
            _SHARED.close()  # a late answer would be read as that of the next job
            raise
        if answer is None:
            _SHARED.close()
            return {"interrupted": "the fork server ended"}
        return answer
