import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.latency.device.main import ABANDONED, FRAME, answered, arrange
from protege.objectives.latency.job import Trace
from protege.objectives.latency.targets.upload import runner
from protege.objectives.latency.workload import Plan

Made = Callable[[list[str]], Path]


def job(folder: Path, plan: Plan, **fields: Any) -> dict[str, Any]:
    return {
        "programs": [str(folder), str(folder)],
        "threads": 1,
        "new_tokens": 0,
        "plan": asdict(plan) | {"process_s": plan.process_s},
        **fields,
    }


def test_programs_are_timed_by_turns(program: Made, brief: Plan) -> None:
    answer = answered(job(program(["prefill"]), brief), time.perf_counter())
    trace = Trace.of(answer["trace"])
    assert len(trace.cold_ms) == 2
    assert all(len(row) == 2 for row in trace.rounds)
    assert len(trace.rounds) >= brief.least_pairs
    assert {"before", "after"} <= trace.environment.keys()


def test_what_cannot_run_is_told_in_one_line(tmp_path: Path, brief: Plan) -> None:
    answer = answered(job(tmp_path / "nowhere", brief), time.perf_counter())
    assert answer["failed"].startswith("FileNotFoundError: ")
    assert "\n" not in answer["failed"]


def test_a_busy_device_says_who_has_it(tmp_path: Path, brief: Plan) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        held.write("4711")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        answer = answered(job(tmp_path, brief, lock=str(lock)), time.perf_counter())
    assert answer == {"busy": "process 4711"}
    assert "failed" in answered(job(tmp_path, brief, lock=str(lock)), time.perf_counter())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are chosen on Linux alone")
def test_a_process_keeps_to_its_cores() -> None:
    before = os.sched_getaffinity(0)
    try:
        assert arrange([min(before)], "normal") == f"cores {min(before)}"
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
    assert arrange([], "normal") == ""


def test_a_runner_that_nobody_waits_for_ends(program: Made, endless: Plan, tmp_path: Path) -> None:
    file = tmp_path / "runner.pyz"
    file.write_bytes(runner())
    command = [sys.executable, "-I", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(job(program(["prefill"]), endless)).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"measuring\n"  # a sign of life
        process.stdin.close()
        assert process.wait(60) == ABANDONED
        assert FRAME.encode() not in process.stdout.read()
