"""The process that forks a fresh child for every job.

Run as ``python -m protege.objectives.latency.local.fork_worker``. Jobs come as one JSON line each
on standard input, answers go as one framed line each to standard output. Libraries are imported
once, here, and never used here: threads of OpenMP do not survive a fork, so that the first
operation of torch must be a child's. When the input ends, which also happens when the parent dies,
this process and its child end.
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
    # a scheduler sends them to every process of a job: they are for the study, which ends this one
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Python 3.12 warns of any fork beside threads; those of numpy expect it and hold no lock
    warnings.simplefilter("ignore", DeprecationWarning)
    for line in iter(sys.stdin.buffer.readline, b""):
        answer = json.dumps(_answer(json.loads(line)))
        # the line break ends what a stray print may have begun
        sys.stdout.write(f"\n{FRAME}{answer}\n")
        sys.stdout.flush()


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        job = Job.of(record)
        for model in job.models:
            class_named(model.model_class)  # its module is imported once, instead of by each child
    except ProtegeError as error:
        return {"failed": str(error)}
    sys.stdout.flush()
    reading, writing = os.pipe()
    runner = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(job, writing, runner)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor has no path
        return _await(child, pipe.fileno(), job.plan.deadline_s)


def _await(child: int, pipe: int, deadline_s: float) -> dict[str, Any]:
    """The child's answer, or what became of it; blocks, and burns nothing of what is measured."""
    until_s = time.monotonic() + deadline_s
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    poll.register(sys.stdin, 0)  # no event but the one that cannot be masked: its end
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
            return _last_words(child, bytes(received))


def _last_words(child: int, received: bytes) -> dict[str, Any]:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return dict(json.loads(received))
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return {"interrupted": f"the process ended with {cause}"}


def _be_child(job: Job, writing: int, runner: int) -> None:
    """Measure, answer, and end without the clean-up that belongs to the runner."""
    try:
        _die_with(runner, job.plan.deadline_s)
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
    except Exception as error:  # noqa: BLE001 - whatever a model raises is the answer
        lines = str(error).strip().splitlines() or [""]
        return {"failed": f"{type(error).__name__}: {lines[0]}"}


def _die_with(runner: int, deadline_s: float) -> None:
    # where the kernel cannot tell a child of its parent's death, the alarm still ends it
    signal.alarm(math.ceil(deadline_s) + 1)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != runner:
        os._exit(1)


if __name__ == "__main__":
    main()
