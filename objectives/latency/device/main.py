"""Run one job: read it as a JSON line on standard input, write a framed JSON line with the answer.

The client keeps the input open while it waits; the end of the input, also at the client's death,
ends this process at once, unless the job is ``detached``. A line per second on standard output is
the heartbeat.
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
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(done,), daemon=True)
    heart.start()
    if not job.get("detached"):
        threading.Thread(target=_exit_with_input, daemon=True).start()
    answer = answered(job, start_s)
    done.set()
    heart.join()
    # the leading line break ends a line begun by a stray print
    sys.stdout.write(f"\n{FRAME}{json.dumps(answer)}\n")
    sys.stdout.flush()
    return 0


def answered(job: dict[str, Any], start_s: float) -> dict[str, Any]:
    """Run a job: return its ``trace``, ``memory`` or ``energy``, or ``busy`` or ``failed``."""
    try:
        with _locked(job.get("lock")):
            return _answer(job, start_s)
    except BlockingIOError as error:
        return {"busy": str(error)}
    except Exception as error:  # noqa: BLE001 - any error of a runtime is the answer
        # all lines joined: the first may only name a place in the runtime's source
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}


def _answer(job: dict[str, Any], start_s: float) -> dict[str, Any]:
    new_tokens, threads, question = int(job["new_tokens"]), job["threads"], job.get("question", {})
    arranged = arrange(job.get("cores", []), job.get("priority", "normal"))
    if question.get("kind") == "memory":
        return {"memory": _memory(job["programs"][0], threads, new_tokens)}
    programs = [Program(folder, threads) for folder in job["programs"]]
    calls = [one.call(new_tokens) for one in programs]
    if question.get("kind") == "energy":
        calls[0]()
        return {"energy": energy(calls[0], "cpu", question)}
    plan, before = SimpleNamespace(**job["plan"]), snapshot()
    brief = [one.call(min(new_tokens, plan.warm_up_tokens)) for one in programs]
    cold_ms, rounds = timed(brief, calls, plan, start_s)
    environment = {"before": before, "after": snapshot()}
    return {
        "trace": {
            "cold_ms": cold_ms,
            "rounds": rounds,
            "environment": environment,
            "arranged": arranged,
        }
    }


def _memory(folder: str, threads: int, new_tokens: int) -> dict[str, float]:
    """Measure a program's peak memory; one decoding step suffices, as all are equal."""
    import_runtime(folder)
    imports_mb = resident_bytes() / 1e6
    peaks = footprint(lambda: Program(folder, threads).call(min(new_tokens, 1)))
    return {**peaks, "imports_mb": imports_mb, "artifact_mb": program_bytes(folder) / 1e6}


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


def _beat(done: threading.Event) -> None:
    while not done.wait(1):
        sys.stdout.write("measuring\n")
        sys.stdout.flush()
