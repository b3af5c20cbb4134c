"""Run one job: read it as a JSON line on standard input, write a framed JSON line with the answer.

The client keeps the input open while it waits; the end of the input, also at the client's death,
ends this process at once. A line per second on standard error is the heartbeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from protege.objectives.latency.device.environment import snapshot
from protege.objectives.latency.device.loop import timed
from protege.objectives.latency.device.meters import energy
from protege.objectives.latency.device.programs import Program
from protege.objectives.latency.device.resources import (
    footprint,
    import_runtime,
    program_bytes,
    resident_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME = "@@LAT1@@"
"""The prefix of an answer, which distinguishes it from other output."""

ABANDONED = 75
"""The exit code if the client has closed the input."""


def main() -> int:
    """Run the job on standard input."""
    start_s = time.perf_counter()
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_input, daemon=True).start()
    threading.Thread(target=_beat, daemon=True).start()
    answer = answered(job, start_s)
    # the leading line break ends a line begun by a stray print
    sys.stdout.write(f"\n{FRAME}{json.dumps(answer)}\n")
    sys.stdout.flush()
    return 0


def answered(job: dict[str, Any], start_s: float) -> dict[str, Any]:
    """Run a job: return its ``trace``, ``memory`` or ``energy``, or ``busy`` or ``failed``."""
    try:
        with _locked(job.get("lock")):
            arranged = arrange(job.get("cores", []), job.get("priority", "normal"))
            question = job.get("question", {"kind": "time"})
            if question["kind"] == "memory":
                return {"memory": _memory(job)}
            if question["kind"] == "energy":
                return {"energy": _energy(job, question)}
            return {"trace": {**_trace(job, start_s), "arranged": arranged}}
    except BlockingIOError as error:
        return {"busy": str(error)}
    except Exception as error:  # noqa: BLE001 - any error of a runtime is the answer
        # all lines joined: the first may only name a place in the runtime's source
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}


def _trace(job: dict[str, Any], start_s: float) -> dict[str, Any]:
    plan, new_tokens = SimpleNamespace(**job["plan"]), int(job["new_tokens"])
    programs = [Program(folder, job["threads"]) for folder in job["programs"]]
    brief = [one.call(min(new_tokens, plan.warm_up_tokens)) for one in programs]
    before = snapshot()
    cold_ms, rounds = timed(brief, [one.call(new_tokens) for one in programs], plan, start_s)
    return {
        "cold_ms": list(cold_ms),
        "rounds": [[list(sample) for sample in row] for row in rounds],
        "environment": {"before": before, "after": snapshot()},
    }


def _memory(job: dict[str, Any]) -> dict[str, float]:
    """Measure peak memory of the one program; one decoding step suffices, as all are equal."""
    (folder,) = job["programs"]
    import_runtime(folder)
    imports_mb = resident_bytes() / 1e6
    steps = min(int(job["new_tokens"]), 1)
    peaks = footprint(lambda: Program(folder, job["threads"]).call(steps))
    return {**peaks, "imports_mb": imports_mb, "artifact_mb": program_bytes(folder) / 1e6}


def _energy(job: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
    (folder,) = job["programs"]
    call = Program(folder, job["threads"]).call(int(job["new_tokens"]))
    call()
    return energy(call, "cpu", question)


def arrange(cores: list[int], priority: str) -> str:
    """Pin this process to cores and raise its priority; return what took effect, in words."""
    done = []
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
        done.append(f"cores {','.join(map(str, cores))}")
    if priority == "high":
        done.append(_raise_priority())
    return ", ".join(done)


def _raise_priority() -> str:
    """Raise the priority by the first of three ways allowed; nice is weak with autogroups."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "fifo"
    with contextlib.suppress(OSError):
        with open("/proc/self/autogroup", "w", encoding="ascii") as autogroup:  # noqa: PTH123
            autogroup.write("-10")
        return "autogroup -10"
    with contextlib.suppress(OSError, AttributeError):
        return f"nice {os.nice(-10)}"
    return "normal priority: a higher one was not allowed"


@contextlib.contextmanager
def _locked(path: str | None) -> Iterator[None]:
    """Hold the device's lock, which the kernel releases at the process's end.

    filelock is not used, because the runner needs the standard library and the runtime only.

    Raises:
        BlockingIOError: Another process is measuring; names it.
    """
    if not path:
        yield
        return
    import fcntl

    # mode 0600, since any user who can open the file could hold its lock for ever
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "r+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BlockingIOError(f"process {lock.read().strip() or 'unknown'}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _exit_with_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(ABANDONED)


def _beat() -> None:
    while True:
        time.sleep(1)
        sys.stderr.write("measuring\n")
        sys.stderr.flush()
