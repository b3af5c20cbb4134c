import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.device.main import FRAME
from protege.objectives.latency.job import Job, Setting
from protege.spaces.models.blueprint import Blueprint

Runner = subprocess.Popen[str]


@contextlib.contextmanager
def started() -> Iterator[Runner]:
    command = [sys.executable, "-m", "protege.objectives.latency.local.fork_worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Runner]:
    """One runner for the tests that leave it alive, as starting takes seconds."""
    with started() as process:
        yield process
        close(process)
        assert process.wait() == 0  # an idle runner ends with its input as well


@pytest.fixture
def job(encoder: Callable[[int], Blueprint], brief: Plan) -> Job:
    return Job((encoder(1), encoder(2)), Workload(1, 4), Setting(), brief)


def send(runner: Runner, job: Job) -> None:
    assert runner.stdin is not None
    runner.stdin.write(json.dumps(job.record()) + "\n")
    runner.stdin.flush()


def close(runner: Runner) -> None:
    assert runner.stdin is not None
    runner.stdin.close()


def answer(runner: Runner) -> dict[str, Any]:
    assert runner.stdout is not None
    framed = next(line for line in runner.stdout if line.startswith(FRAME))
    return dict(json.loads(framed.removeprefix(FRAME)))


def child_of(runner: Runner) -> int:
    """The process that is measuring, once there is one."""
    children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])


def wait_until_gone(process: int) -> None:
    """Return once the process has ended, or is only waiting for someone to ask."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text():
            time.sleep(0.01)


@pytest.mark.slow
def test_a_failed_a_hung_and_a_killed_child_cost_one_job_each(
    lasting: Runner, job: Job, endless: Plan
) -> None:
    send(lasting, replace(job, workload=Workload(1, 64)))  # beyond the model's positions
    assert "Error" in answer(lasting)["failed"]

    send(lasting, replace(job, models=(Blueprint("NoSuchModel", "{}"),)))
    assert answer(lasting) == {"failed": "transformers exports no class 'NoSuchModel'"}

    send(lasting, replace(job, plan=replace(endless, deadline_s=0.2)))
    assert answer(lasting) == {"interrupted": "no answer within 0.2 s"}

    send(lasting, replace(job, plan=endless))
    os.kill(child_of(lasting), signal.SIGKILL)
    assert answer(lasting) == {"interrupted": "the process ended with SIGKILL"}

    send(lasting, job)
    assert len(answer(lasting)["trace"]["cold_ms"]) == 2


def test_every_job_has_a_fresh_process_and_the_runner_computes_nothing(
    lasting: Runner, job: Job, endless: Plan
) -> None:
    send(lasting, job)
    answer(lasting)
    before = len(os.listdir(f"/proc/{lasting.pid}/task"))  # noqa: PTH208
    children = set()
    for _ in range(2):
        send(lasting, replace(job, plan=endless))
        children.add(child_of(lasting))
        os.kill(child_of(lasting), signal.SIGKILL)
        answer(lasting)
    assert len(children) == 2
    assert len(os.listdir(f"/proc/{lasting.pid}/task")) == before  # noqa: PTH208


@pytest.mark.slow
def test_the_end_of_the_input_ends_a_busy_runner_and_its_child(job: Job, endless: Plan) -> None:
    with started() as runner:
        send(runner, replace(job, plan=endless))
        child = child_of(runner)
        close(runner)
        assert runner.wait() == 0
        wait_until_gone(child)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an alarm ends the child, later")
def test_a_killed_runner_takes_its_child_along(job: Job, endless: Plan) -> None:
    with started() as runner:
        send(runner, replace(job, plan=endless))
        child = child_of(runner)
        runner.kill()
        runner.wait()
        wait_until_gone(child)
