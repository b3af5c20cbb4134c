"""The fork server's process: forks a fresh child for every job.

Run as ``python -m protege.objectives.latency.local.fork_worker FD``, where FD is the file
descriptor of a socket to the study. It imports the libraries but never uses them: OpenMP threads do
not survive a fork, so the first torch operation must be a child's. When the study closes the socket
or dies, the process ends with its child.
"""

import contextlib
import ctypes
import math
import os
import signal
import sys
import warnings
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from transformers.utils import logging

from protege.objectives.latency.job import MeasuringJob
from protege.objectives.latency.local.calls import traced
from protege.objectives.latency.local.footprint import memory, used
from protege.objectives.latency.models import class_named
from protege.spaces.errors import ProtegeError

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer jobs until the study closes the socket."""
    # cluster schedulers signal every process of a job; the study handles it and ends this process
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Python 3.12 warns of forks in threaded processes; numpy's threads hold no lock
    warnings.simplefilter("ignore", DeprecationWarning)
    with Connection(int(sys.argv[1])) as study, contextlib.suppress(EOFError, OSError):
        while True:
            study.send(_answer(study.recv(), study))


def _answer(job: MeasuringJob, study: Connection) -> dict[str, Any]:
    """Run a job in a forked child; return its answer, or how it ended. Blocks without polling."""
    try:
        for model in job.models:
            class_named(model.model_class)  # imports its module here once, not in every child
    except ProtegeError as error:
        return {"failed": str(error)}
    reading, writing = Pipe(duplex=False)
    server = os.getpid()
    child = os.fork()
    if child == 0:
        study.close()  # an open copy would hide the server's death from the study
        _run_child(job, writing, server)
    writing.close()
    answer = None
    with reading:
        ready = wait([reading, study], job.plan.deadline_s)
        if reading in ready:
            with contextlib.suppress(EOFError, OSError):  # killed, or killed as it answered
                answer = dict(reading.recv())
        else:
            os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answer is not None:
        return answer
    if not ready:
        return {"interrupted": f"no answer within {job.plan.deadline_s:g} s"}
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return {"interrupted": f"the process ended with {cause}"}


def _run_child(job: MeasuringJob, answer: Connection, server: int) -> None:
    """Measure, answer, and exit without running the parent's exit handlers."""
    try:
        _exit_with_parent(server, job.plan.deadline_s)
        answer.send(_measured(job))
        os._exit(0)
    finally:
        os._exit(1)


def _measured(job: MeasuringJob) -> dict[str, Any]:
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
