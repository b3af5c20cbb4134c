import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.job import MeasuringJob, TorchSettings
from protege.spaces.models.blueprint import Blueprint

pytestmark = pytest.mark.slow  # an interpreter imports torch and transformers


@dataclass(frozen=True)
class Runner:
    """A fork server's process, and the connection to it."""

    process: "subprocess.Popen[bytes]"
    study: Connection


@contextlib.contextmanager
def started() -> Iterator[Runner]:
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    command = [sys.executable, "-m", "protege.objectives.latency.local.fork_worker"]
    with theirs:
        process = subprocess.Popen([*command, str(descriptor)], pass_fds=[descriptor])
    with process, Connection(ours.detach()) as study:
        yield Runner(process, study)
        process.kill()


@pytest.fixture(scope="module")
def lasting() -> Iterator[Runner]:
    """One runner for the tests that leave it alive, as starting takes seconds."""
    with started() as runner:
        yield runner
        runner.study.close()
        assert runner.process.wait() == 0  # an idle runner ends with its input as well


@pytest.fixture
def job(encoder: Callable[[int], Blueprint], brief: Plan) -> MeasuringJob:
    return MeasuringJob((encoder(1), encoder(2)), Workload(1, 4), TorchSettings(), brief)


def child_of(runner: Runner) -> int:
    """The process that is measuring, once there is one."""
    children = Path(f"/proc/{runner.process.pid}/task/{runner.process.pid}/children")
    while not (found := children.read_text().split()):
        time.sleep(0.01)
    return int(found[0])


def wait_until_gone(process: int) -> None:
    """Return once the process has ended, or is only waiting for someone to ask."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text():
            time.sleep(0.01)


def test_a_failed_a_hung_and_a_killed_child_cost_one_job_each(
    lasting: Runner, job: MeasuringJob, endless: Plan
) -> None:
    lasting.study.send(replace(job, workload=Workload(1, 64)))  # beyond the model's positions
    assert "Error" in lasting.study.recv()["failed"]

    lasting.study.send(replace(job, models=(Blueprint("NoSuchModel", "{}"),)))
    assert lasting.study.recv() == {"failed": "transformers exports no class 'NoSuchModel'"}

    lasting.study.send(replace(job, plan=replace(endless, deadline_s=0.2)))
    assert lasting.study.recv() == {"interrupted": "no answer within 0.2 s"}

    lasting.study.send(replace(job, plan=endless))
    os.kill(child_of(lasting), signal.SIGKILL)
    assert lasting.study.recv() == {"interrupted": "the process ended with SIGKILL"}

    lasting.study.send(job)
    assert len(lasting.study.recv()["trace"]["cold_ms"]) == 2


def test_every_job_has_a_fresh_process_and_the_runner_computes_nothing(
    lasting: Runner, job: MeasuringJob, endless: Plan
) -> None:
    lasting.study.send(job)
    lasting.study.recv()
    before = len(os.listdir(f"/proc/{lasting.process.pid}/task"))  # noqa: PTH208
    children = set()
    for _ in range(2):
        lasting.study.send(replace(job, plan=endless))
        children.add(child_of(lasting))
        os.kill(child_of(lasting), signal.SIGKILL)
        lasting.study.recv()
    assert len(children) == 2
    assert len(os.listdir(f"/proc/{lasting.process.pid}/task")) == before  # noqa: PTH208


def test_the_end_of_the_input_ends_a_busy_runner_and_its_child(
    job: MeasuringJob, endless: Plan
) -> None:
    with started() as runner:
        runner.study.send(replace(job, plan=endless))
        child = child_of(runner)
        runner.study.close()
        assert runner.process.wait() == 0
        wait_until_gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an alarm ends the child, later")
def test_a_killed_runner_takes_its_child_along(job: MeasuringJob, endless: Plan) -> None:
    with started() as runner:
        runner.study.send(replace(job, plan=endless))
        child = child_of(runner)
        runner.process.kill()
        runner.process.wait()
        wait_until_gone(child)
