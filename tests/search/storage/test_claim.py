"""One process alone goes on with a study: on a server too, whatever its run folder."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, Measurement, Memory
from protege.search import Search
from protege.search.storage.claim import GRACE_S, Claim, claimed
from protege.search.storage.storage import read_study, server_url
from protege.spaces import BadInput, Teacher
from tests.postgres import Server
from tests.search.toys import PLAIN, toy


@pytest.fixture(params=[pytest.param("postgresql", marks=pytest.mark.slow), "journal", "sqlite"])
def storage(request: pytest.FixtureRequest, folder: Path) -> str:
    """A storage that is empty."""
    if request.param != "postgresql":
        return f"{request.param}:///{folder}/study.log"
    server: Server = request.getfixturevalue("postgresql")
    return server.database()


def hold(storage: str, held: Any) -> None:
    """Claim a study from another process, until that is killed."""
    with claimed(storage, "toy"):
        held.put(os.getpid())
        signal.pause()


@contextmanager
def somebody_else(storage: str) -> Iterator[int]:
    """The id of another process that has claimed the study; it is killed in the end."""
    context = multiprocessing.get_context("fork")  # spawned, it would import torch for seconds
    held = context.SimpleQueue()
    other = context.Process(target=hold, args=(storage, held))
    other.start()
    try:
        yield held.get()
    finally:
        other.kill()
        other.join()


def plain(storage: str, run: Path, teacher: Teacher) -> Search:
    given: dict[str, Any] = {"space": PLAIN, "objectives": [Memory()], "teacher": teacher}
    return toy(run, storage=storage, folder=run, **given)


def test_a_study_that_another_process_runs_is_refused_whatever_the_folder(
    storage: str, folder: Path, teacher: Teacher
) -> None:
    with somebody_else(storage) as pid:
        message = f"^study 'toy' is being run by process {pid}.*; wait for it, or stop it first$"
        with pytest.raises(BadInput, match=message):
            plain(storage, folder / "mine", teacher).run(trials=2)
    # it was killed, and has let go
    assert len(plain(storage, folder / "mine", teacher).run(trials=2).trials) == 2


def test_another_study_of_the_storage_is_another_claim(storage: str) -> None:
    refused = pytest.raises(BadInput, match="'toy' is being run by process")
    with somebody_else(storage), claimed(storage, "another") as make_sure:
        make_sure()
        with refused, claimed(storage, "toy"):
            pass


def test_who_has_taken_a_study_while_its_server_was_away_keeps_it(
    postgresql: Server, folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = postgresql.database()
    url = server_url(storage)
    measure, other, measured = Memory.measure, Claim(url, "toy"), []

    def overtaken(self: Memory, candidate: Candidate) -> Measurement:
        measured.append(candidate)
        if len(measured) == 4:
            postgresql.kill()
            postgresql.start()
            other.take()
        return measure(self, candidate)

    monkeypatch.setattr(Memory, "measure", overtaken)
    with pytest.raises(BadInput, match=f"is being run by process {os.getpid()}@"):
        plain(storage, folder / "mine", teacher).run(trials=9)
    told = [trial.number for trial in read_study(storage).trials if trial.state.is_finished()]
    assert told == [0, 1, 2]
    other.let_go()
    assert len(plain(storage, folder / "theirs", teacher).run(trials=4).trials) == 4


def test_a_connection_that_was_lost_does_not_keep_its_process_out(
    postgresql: Server,
) -> None:
    claim = Claim(server_url(postgresql.url), "toy")
    claim.take()
    lost, claim._connection = claim._connection, None  # the server has not noticed yet
    began = time.monotonic()
    claim.take()
    assert time.monotonic() - began < GRACE_S
    assert lost is not None
    claim.let_go()
