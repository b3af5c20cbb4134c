"""Who waits for whom on a machine where some work and some measure; with real processes."""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.machine.lock import exclusive_machine, shared_machine
from protege.spaces.files.private import OVERRIDE

MachineLock = Callable[[], AbstractContextManager[None]]

FORK = multiprocessing.get_context("fork")  # spawned, they would import for seconds
SOON_S = 20.0
"""Of a busy machine."""
A_WHILE_S = 0.3


class Holder:
    """A process that takes a lock, and keeps it until it is told to let go."""

    def __init__(self, lock: MachineLock) -> None:
        self._in, self._out = FORK.Event(), FORK.Event()
        self.process = started(self._hold, lock)

    def _hold(self, lock: MachineLock) -> None:
        with lock():
            self._in.set()
            self._out.wait()

    def has_it(self, within_s: float = SOON_S) -> bool:
        return self._in.wait(within_s)

    def let_go(self) -> None:
        self._out.set()


PROCESSES: list[BaseProcess] = []


def started(target: Callable[..., None], *given: Any) -> BaseProcess:
    process = FORK.Process(target=target, args=given, daemon=True)
    process.start()
    PROCESSES.append(process)
    return process


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Locks that nobody else on this machine waits for, and no process left behind."""
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "private"))
    yield
    while PROCESSES:
        process = PROCESSES.pop()
        process.kill()
        process.join()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (shared_machine, exclusive_machine),
        (exclusive_machine, shared_machine),
        (exclusive_machine, exclusive_machine),
    ],
)
def test_one_waits_for_the_other(first: MachineLock, second: MachineLock) -> None:
    one = Holder(first)
    assert one.has_it()
    other = Holder(second)
    assert not other.has_it(A_WHILE_S)
    one.let_go()
    assert other.has_it()


def test_work_goes_on_beside_work() -> None:
    holders = [Holder(shared_machine), Holder(shared_machine)]
    assert all(one.has_it() for one in holders)


@pytest.mark.parametrize(
    ("first", "second"), [(shared_machine, exclusive_machine), (exclusive_machine, shared_machine)]
)
def test_who_is_killed_lets_go(first: MachineLock, second: MachineLock) -> None:
    one = Holder(first)
    assert one.has_it()
    other = Holder(second)
    assert not other.has_it(A_WHILE_S)
    one.process.kill()
    assert other.has_it()


def test_who_is_killed_as_it_waits_is_in_nobodys_way() -> None:
    at_work, waiting = Holder(shared_machine), Holder(exclusive_machine)
    assert at_work.has_it()
    assert not waiting.has_it(A_WHILE_S)
    waiting.process.kill()
    assert Holder(shared_machine).has_it()


def work_without_end() -> None:
    while True:
        with shared_machine():
            time.sleep(0.1)


def test_a_stream_of_short_pieces_of_work_keeps_no_measurement_waiting() -> None:
    for _ in range(12):  # so that some are always at work
        started(work_without_end)
    assert Holder(exclusive_machine).has_it()


def test_a_measurement_keeps_no_stream_of_work_waiting_for_ever() -> None:
    measuring = Holder(exclusive_machine)
    assert measuring.has_it()
    waiting = Holder(shared_machine)
    assert not waiting.has_it(A_WHILE_S)
    measuring.let_go()
    assert waiting.has_it()
    assert Holder(shared_machine).has_it()


@pytest.mark.parametrize("first", [shared_machine, exclusive_machine])
def test_a_process_that_waits_logs_the_holder_until_its_turn(
    first: MachineLock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="protege")
    holder = Holder(first)
    assert holder.has_it()

    def release() -> None:
        while len(caplog.messages) < 2:
            time.sleep(0.01)
        holder.let_go()

    threading.Thread(target=release, daemon=True).start()
    with exclusive_machine(warn_s=(0.05, 0.05)):
        told = len(caplog.messages)
    pid = holder.process.pid
    assert all(line.endswith(f".lock, held by process {pid}") for line in caplog.messages)
    time.sleep(0.15)
    assert len(caplog.messages) == told


def test_a_lease_that_is_free_starts_no_thread() -> None:
    before = threading.active_count()
    with exclusive_machine():
        assert threading.active_count() == before
    with shared_machine():
        assert threading.active_count() == before
