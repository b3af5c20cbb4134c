"""The one runner of this process: started when first needed, shared, closed at exit."""

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
from protege.objectives.lease import alone
from protege.spaces.errors import Unsupported
from protege.spaces.files.private import made_private, private_folder

INDUCTOR = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable by which `torch.compile` is told where to keep what it compiles."""


class Nursery:
    """A runner process, and the pipes to it."""

    def __init__(self) -> None:
        # -P: a file beside the user's script must not pass for a library of the same name. A
        # session of its own: Ctrl-C is for the study, which then closes its runner in order, and
        # the scheduler weighs the runner against the study's other work instead of among it.
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
        """The runner's process id."""
        return self._process.pid

    def exchange(self, job: Job) -> dict[str, Any] | None:
        """The runner's answer to a job; None when the runner died over it. Blocks, never polls."""
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
        """End the runner and whatever it is measuring."""
        self.let_go()
        self._process.kill()
        self._process.wait()

    def let_go(self) -> None:
        """Close this process's ends of the pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # it breaks when the runner died with a job still on its way
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _compiled_in() -> dict[str, str]:
    """Return where `torch.compile` keeps the programs that it loads again.

    Its default is a folder under the temporary one, with a name that anybody can predict.

    Raises:
        BadInput: The folder is not this user's alone.
    """
    if INDUCTOR in os.environ:
        return {}
    return {INDUCTOR: str(made_private(private_folder() / "inductor"))}


class _Shared:
    """The runner of this process, and the lock of the threads that want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.nursery: Nursery | None = None

    def ready(self) -> Nursery:
        """The runner, started if there is none."""
        if self.nursery is None:
            self.nursery = Nursery()
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self.forget)
        return self.nursery

    def close(self) -> None:
        """End the runner, if there is one."""
        nursery, self.nursery = self.nursery, None
        if nursery is not None:
            nursery.close()

    def forget(self) -> None:
        """Leave the runner to the parent that this process was forked from."""
        self.lock = threading.Lock()
        nursery, self.nursery = self.nursery, None
        if nursery is not None:
            # or the runner would not see its input end for as long as this process lives
            nursery.let_go()


_SHARED = _Shared()


def exchange(job: Job) -> dict[str, Any]:
    """The answer to a job: its ``trace``, or why it ``failed`` or was ``interrupted``.

    One job at a time runs on this machine, whichever of the user's processes asks.

    Raises:
        Unsupported: When the platform cannot fork.
    """
    if not hasattr(os, "fork"):
        raise Unsupported("latency is measured in forked processes, which this platform lacks")
    with _SHARED.lock:
        nursery = _SHARED.ready()  # before anybody has to wait for it
        try:
            with alone():
                answer = nursery.exchange(job)
        except BaseException:
            _SHARED.close()  # its answer would be taken for that of the next job
            raise
        if answer is None:
            _SHARED.close()
            return {"interrupted": "the runner ended"}
        return answer
