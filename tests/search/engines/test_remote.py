"""What a worker logs reaches the study as a sign of life; a task is its owner's alone."""

import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.machine.pickling import write_pickle
from protege.search.engines.events import Message, Progress, WorkerReady
from protege.search.engines.remote import Actor, Service
from protege.spaces import BadInput, ProtegeError
from protege.spaces.files.private import made_private

logger = logging.getLogger("protege")


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    before = [*logger.handlers]
    yield
    logger.handlers[:] = before


@dataclass(frozen=True)
class Bare:
    """A task of no study."""

    private: bool = False

    def with_calibration(self) -> "Bare":
        return self


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task in the folder that an engine makes for it."""
    path = made_private(tmp_path / "workers") / "task.pt"
    write_pickle(Bare(), path, "it", "mend it")
    return path


def test_a_worker_tells_the_study_what_it_logs(task: Path) -> None:
    told: list[Message] = []
    Service(told.append, task, 1)
    logger.info("nothing to speak of")
    logger.warning("waiting for %s", "a lock")
    assert told == [WorkerReady(), Progress("waiting for a lock", is_warning=True)]


def test_an_actor_returns_each_message_once(task: Path) -> None:
    actor = Actor([], task, 1)
    logger.warning("waiting for %s", "a lock")
    assert actor.messages() == [WorkerReady(), Progress("waiting for a lock", is_warning=True)]
    logger.warning("still waiting")
    assert actor.messages() == [Progress("still waiting", is_warning=True)]


def test_an_error_of_all_trials_is_reported_and_its_traceback_is_in_the_log(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Message] = []
    service = Service(told.append, task, 1)
    service.run(pickle.dumps(("begin", ("no job",), {})))
    assert isinstance(told[-1], ProtegeError)
    assert str(told[-1]).startswith("AttributeError: 'str' object has no attribute")
    assert "in begin\n" in capsys.readouterr().err


def test_a_task_that_is_not_on_this_node_is_refused(tmp_path: Path) -> None:
    told: list[Message] = []
    Service(told.append, tmp_path / "task.pt", 1)
    (refusal,) = told
    assert isinstance(refusal, BadInput)
    assert "is not visible on node" in str(refusal)


def test_a_task_is_for_its_owner_alone(task: Path) -> None:
    assert task.stat().st_mode & 0o777 == 0o600
    assert task.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", ["file", "folder"])
def test_a_task_that_others_can_write_is_unpickled_by_no_worker(task: Path, at: str) -> None:
    (task if at == "file" else task.parent).chmod(0o777)
    ran = task.with_name("ran")
    write_pickle(Planted(ran), task.with_name("planted.pt"), "it", "mend it")
    os.rename(task.with_name("planted.pt"), task)  # noqa: PTH104 - over what is there
    if at == "file":
        task.chmod(0o666)
    (refusal,) = Actor([], task, 1).messages()
    assert isinstance(refusal, BadInput)
    assert "can be written by other users: it is not read" in str(refusal)
    assert not ran.exists()


class Planted:
    """Runs when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.ran,)
