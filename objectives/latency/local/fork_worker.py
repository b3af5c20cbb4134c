"""The fork server's process: forks a fresh child for every job.

Run as ``python -m protege.objectives.latency.local.fork_worker``. It reads one job per line as JSON
on standard input and writes one framed JSON line per answer to standard output. It imports the
libraries but never uses them: OpenMP threads do not survive a fork, so the first torch operation
must be a child's. At the end of its input, also when the parent dies, it ends with its child.
"""

import contextlib
import ctypes
import json
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from transformers.utils import logging

from protege.objectives.latency.device.main import FRAME
from protege.objectives.latency.job import Job
from protege.objectives.latency.local.calls import traced
from protege.objectives.latency.local.footprint import memory, used
from protege.objectives.latency.models import class_named
from protege.spaces.errors import ProtegeError

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer jobs until the input ends."""
    # cluster schedulers signal every process of a job; the study handles it and ends this process
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Python 3.12 warns of forks in threaded processes; numpy's threads hold no lock
    warnings.simplefilter("ignore", DeprecationWarning)
    for line in iter(sys.stdin.buffer.readline, b""):
        answer = json.dumps(_answer(json.loads(line)))
        # the leading line break ends a line begun by a stray print
        sys.stdout.write(f"\n{FRAME}{answer}\n")
        sys.stdout.flush()


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        job = Job.of(record)
        for model in job.models:
            class_named(model.model_class)  # imports its module here once, not in every child
    except ProtegeError as error:
        return {"failed": str(error)}
    sys.stdout.flush()
    reading, writing = os.pipe()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_child(job, writing, server)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor has no path
        return _await(child, pipe.fileno(), job.plan.deadline_s)


def _await(child: int, pipe: int, deadline_s: float) -> dict[str, Any]:
    """Return the child's answer, or how it ended. Blocks without polling, to use no CPU."""
    until_s = time.monotonic() + deadline_s
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(sys.stdin, 0)  # only POLLHUP, which cannot be masked
    received = bytearray()
    while True:
        left_ms = math.ceil(max(0.0, until_s - time.monotonic()) * 1000)
        ready = dict(poll.poll(left_ms))
        if not ready or sys.stdin.fileno() in ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if ready:
                sys.exit(0)
            return {"interrupted": f"no answer within {deadline_s:g} s"}
        chunk = os.read(pipe, 1 << 16)
        received += chunk
        if not chunk:
            return _collect(child, bytes(received))


def _collect(child: int, received: bytes) -> dict[str, Any]:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return dict(json.loads(received))
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return {"interrupted": f"the process ended with {cause}"}


def _run_child(job: Job, writing: int, server: int) -> None:
    """Measure, answer, and exit without running the parent's exit handlers."""
    try:
        _exit_with_parent(server, job.plan.deadline_s)
        answer = json.dumps(_measured(job)).encode()
        with open(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    finally:
        os._exit(1)


def _measured(job: Job) -> dict[str, Any]:
    try:
        if job.question.kind == "memory":
            return {"memory": memory(job)}
        if job.question.kind == "energy":
            return {"energy": used(job)}
        return {"trace": traced(job).record()}
    except Exception as error:  # noqa: BLE001 - any error of a model is the answer
        lines = str(error).strip().splitlines() or [""]
        return {"failed": f"{type(error).__name__}: {lines[0]}"}


def _exit_with_parent(server: int, deadline_s: float) -> None:
    # PR_SET_PDEATHSIG is Linux only; elsewhere the alarm ends an orphan
    signal.alarm(math.ceil(deadline_s) + 1)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


if __name__ == "__main__":
    main()
