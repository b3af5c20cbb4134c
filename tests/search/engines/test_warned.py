"""What a worker logs reaches the study as a sign of life; a task is its owner's alone."""

import logging
import os
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protege.objectives.handover import hand_over
from protege.search import LocalEngine
from protege.search.engines import working
from protege.search.engines.actor import Actor
from protege.spaces import BadInput
from protege.spaces.files.private import made_private

logger = logging.getLogger("protege")


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    before = [*logger.handlers]
    yield
    logger.handlers[:] = before


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task in the folder that an engine makes for it."""
    path = made_private(tmp_path / "workers") / "task.pt"
    hand_over(SimpleNamespace(private=False), path, "it", "mend it")
    return path


def test_a_local_worker_tells_the_study_what_it_logs(
    task: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = Pipe()
    working._worker(theirs, task, 1)
    logger.info("nothing to speak of")
    logger.warning("waiting for %s", "a lock")
    caplog.clear()
    one: Any = SimpleNamespace(line=ours, at=3, heard=0.0)
    assert LocalEngine()._hear(one) is None
    assert caplog.messages == ["trial 3: waiting for a lock"]
    assert one.heard > 0


def test_an_actor_says_what_it_logs(task: Path) -> None:
    actor = Actor([], task, 1)
    assert actor.load() is None
    before, _ = actor.doing()
    logger.warning("waiting for %s", "a lock")
    assert actor.doing() == (before + 1, "waiting for a lock")


def test_a_task_is_for_its_owner_alone(task: Path) -> None:
    assert task.stat().st_mode & 0o777 == 0o600
    assert task.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", ["file", "folder"])
def test_a_task_that_others_can_write_is_unpickled_by_no_worker(task: Path, at: str) -> None:
    (task if at == "file" else task.parent).chmod(0o777)
    ran = task.with_name("ran")
    hand_over(Planted(ran), task.with_name("planted.pt"), "it", "mend it")
    os.rename(task.with_name("planted.pt"), task)  # noqa: PTH104 - over what is there
    if at == "file":
        task.chmod(0o666)
    with pytest.raises(BadInput, match="can be written by other users: it is not read"):
        working._worker(Pipe()[1], task, 1)
    refusal = Actor([], task, 1).load()
    assert isinstance(refusal, BadInput)
    assert not ran.exists()


class Planted:
    """Runs when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.ran,)
