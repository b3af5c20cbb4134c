"""The pool of workers, over a transport that says what a test has it say."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.engines.events import (
    Job,
    JobFinished,
    JobLost,
    Message,
    Progress,
    RungReached,
    WorkerLost,
    WorkerReady,
    unheard,
)
from protege.search.engines.pool import STARTS, WorkerPool
from protege.spaces import BadInput
from tests.search.toys import OWN


@dataclass(eq=False)
class Scripted:
    """A worker that says the next part of its script when it starts and after each call."""

    script: list[list[Message]]
    log: str = "its log"
    starts: int = 0
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    _unheard: list[Message] = field(default_factory=list)

    @property
    def sources(self) -> Sequence["Scripted"]:
        return [self] if self._unheard else []

    def start(self) -> None:
        self.starts += 1
        self._unheard += self.script.pop(0)

    def send(self, verb: str, *given: Any, **named: Any) -> None:
        self.calls.append((verb, *given, *named.values()))
        self._unheard += self.script.pop(0)

    def receive(self, source: "Scripted") -> list[Message]:
        return [source._unheard.pop(0)]

    def kill(self) -> None:
        self._unheard.clear()


@dataclass
class Started:
    """A pool that has started, and what it announces."""

    pool: WorkerPool
    said: list[tuple[str, int | None]] = field(default_factory=list)

    def announce(self, what: str, trial: int | None = None) -> None:
        self.said.append((what, trial))


def started(
    *workers: Scripted,
    measurer: Scripted | None = None,
    silence_s: float = 60.0,
    sends_early: bool = False,
) -> Started:
    found = Started(WorkerPool(lambda sources, _: sources[:1], silence_s, sends_early))
    found.pool.start(Path("no such task"), found.announce, workers, measurer)
    return found


def done(number: int, state: State = State.COMPLETE) -> JobFinished:
    return JobFinished(Trial(number, OWN.key(), OWN.fields(), state, {"size": Measurement(1.0)}))


REACHED, KILLED = RungReached(0, 1, {}, 8), WorkerLost("its process was ended by SIGKILL")


def test_a_job_waits_for_a_worker_that_is_ready_unless_it_may_be_sent_early() -> None:
    worker = Scripted([[WorkerReady()]])
    waits = started(worker)
    assert waits.pool.free()
    assert waits.said == [("waiting for a worker to start", None)]
    early = started(Scripted([[]]), sends_early=True)
    assert early.pool.free()
    assert early.said == []


def test_a_job_goes_on_where_it_is_held_and_another_begins_where_fewest_are() -> None:
    first, second = Scripted([[WorkerReady()], [REACHED], []]), Scripted([[WorkerReady()], []])
    pool = started(first, second, sends_early=True).pool
    jobs = [Job(number, OWN) for number in range(2)]
    pool.submit(jobs[0])
    assert pool.wait_any() == REACHED
    pool.submit(jobs[1])
    assert second.calls == [("begin", jobs[1])]
    assert pool.free(0)
    pool.answer(0, goes_on=False)
    assert first.calls == [("begin", jobs[0]), ("go_on", 0, False)]
    assert not pool.free()


def test_of_a_lost_worker_every_job_is_reported_and_another_one_starts() -> None:
    worker = Scripted([[WorkerReady()], [REACHED], [KILLED], [WorkerReady()], [done(1)]])
    pool = started(worker).pool
    assert pool.free()
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == REACHED
    pool.submit(Job(1, OWN))
    assert pool.wait_any() == JobLost(1, KILLED.reason)
    assert pool.free(0)  # its worker is gone
    pool.answer(0, goes_on=True)
    assert pool.wait_any() == JobLost(0, "")
    assert worker.starts == 2
    assert pool.free()
    pool.submit(Job(1, OWN))
    assert pool.wait_any() == done(1)


def test_a_job_is_measured_before_it_begins_and_is_over_if_that_fails() -> None:
    jobs = [Job(number, OWN) for number in range(2)]
    measured = replace(jobs[0], known={"size": Measurement(1.0)})
    measurer = Scripted([[WorkerReady()], [measured], [done(1, State.SCREENED)]])
    worker = Scripted([[WorkerReady()], [done(0)]])
    pool = started(worker, measurer=measurer).pool
    assert pool.free()
    pool.submit(jobs[0])
    assert not pool.free()  # the worker is idle, and will be needed
    assert pool.wait_any() == done(0)
    assert measurer.calls == [("measure", jobs[0])]
    assert worker.calls == [("begin", measured)]
    pool.submit(jobs[1])
    assert pool.wait_any() == done(1, State.SCREENED)
    assert len(worker.calls) == 1


def test_a_worker_that_is_lost_while_it_starts_costs_its_job_no_attempt() -> None:
    worker = Scripted([[KILLED], [], [WorkerReady()], [done(0)]])
    pool = started(worker, sends_early=True).pool
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == JobLost(0, "")
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == done(0)


@pytest.mark.parametrize(
    ("lost", "times"), [(KILLED, STARTS), (WorkerLost("no such module", failed=True), 1)]
)
def test_workers_that_cannot_start_end_the_study(lost: WorkerLost, times: int) -> None:
    worker = Scripted([[lost]] * times)
    pool = started(worker).pool
    with pytest.raises(BadInput, match=rf"no worker could start: {lost.reason}; see its log"):
        pool.free()
    assert worker.starts == times


def test_an_error_while_starting_is_not_the_end_if_a_worker_could_start_before() -> None:
    failed = WorkerLost("no memory", failed=True)
    worker = Scripted([[WorkerReady()], [KILLED], [failed], [WorkerReady()], [done(0)]])
    pool = started(worker).pool
    assert pool.free()
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == JobLost(0, KILLED.reason)
    assert pool.free()
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == done(0)


def test_a_silent_worker_is_replaced() -> None:
    worker = Scripted([[WorkerReady()], [Progress("distil")], [WorkerReady()]])
    pool = started(worker, silence_s=0.01).pool
    assert pool.free()
    pool.submit(Job(0, OWN))
    assert pool.wait_any() == JobLost(0, "its worker gave no sign of life for 0.01 s")
    assert worker.starts == 2


def test_what_workers_say_is_announced_and_their_warnings_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    says: list[Message] = [Progress("distil"), Progress("waiting", is_warning=True), done(3)]
    found = started(Scripted([[WorkerReady()], says]), sends_early=True)
    found.pool.submit(Job(3, OWN))
    with caplog.at_level(logging.WARNING, "protege"):
        assert found.pool.wait_any() == done(3)
    assert found.said == [("distil", 3)]
    assert caplog.messages == ["trial 3: waiting"]


def test_an_error_that_ends_the_study_is_raised() -> None:
    pool = started(Scripted([[WorkerReady()], [BadInput("no such label")]])).pool
    assert pool.free()
    pool.submit(Job(0, OWN))
    with pytest.raises(BadInput, match="no such label"):
        pool.wait_any()


def test_waiting_for_no_job_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no job is running"):
        started(Scripted([[]]), sends_early=True).pool.wait_any()


def test_closing_removes_the_task(tmp_path: Path) -> None:
    task = tmp_path / "task.pt"
    task.touch()
    pool = WorkerPool(lambda *_: [], 60.0, sends_early=True)
    pool.start(task, unheard, [Scripted([[]])])
    pool.close()
    assert not task.exists()
