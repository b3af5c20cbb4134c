"""A study goes the same way wherever it is stored, and waits for a server that is away."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from sqlalchemy.exc import OperationalError

from protege.objectives import Candidate, Measurement, Memory
from protege.search import Front
from protege.search.storage import storage as module
from protege.search.storage.attributes import IDENTITY, store_study_record
from protege.search.storage.format import written_by
from protege.search.storage.storage import open_storage, read_study, with_retries
from protege.spaces import BadInput, Teacher
from tests.postgres import Server
from tests.search.toys import OBJECTIVES, PLAIN, go_on, keys, opened, toy


@pytest.fixture(params=[pytest.param("postgresql", marks=pytest.mark.slow), "journal"])
def storage(request: pytest.FixtureRequest, folder: Path) -> str:
    """A storage that is empty."""
    if request.param == "journal":
        return f"journal:///{folder}/study.log"
    server: Server = request.getfixturevalue("postgresql")
    return server.database()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a study that no other test has."""
    return str(request.node.name)


def test_a_study_is_run_gone_on_with_and_read(
    storage: str, name: str, folder: Path, teacher: Teacher
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "name": name, "folder": folder / "run"}
    first = toy(folder, storage=storage, **given).run(trials=3)
    front = toy(folder, storage=storage, **given).run(trials=6)
    assert front.trials[:3] == first.trials
    assert [trial.number for trial in front.trials] == [*range(6)]
    beside = toy(folder / "beside", teacher=teacher).run(trials=6)
    assert [t.key for t in front.trials[:6]] == [t.key for t in beside.trials]
    assert [t.measurements for t in front.trials] == [t.measurements for t in beside.trials]
    read = Front.read(storage, name)
    assert read.trials == front.trials
    assert read.folder == (folder / "run").resolve()


def test_a_journal_has_its_run_beside_it(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, storage=f"journal:///{folder}/study.log", folder="")
    assert search.run_folder.path == folder / "runs" / "toy"
    front = search.run(trials=2)
    for place in (f"journal:///{folder}/study.log", folder / "study.log", search.run_folder.path):
        read = Front.read(place)
        assert (read.trials, read.folder.resolve()) == (front.trials, folder / "runs" / "toy")


def test_a_study_waits_for_a_server_that_is_away(
    postgresql: Server, name: str, folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "name": name, "storage": postgresql.url}
    search = toy(folder, folder=folder / "run", space=PLAIN, objectives=[Memory()], **given)
    measure = Memory.measure
    measured: list[Candidate] = []

    def restarted() -> None:
        time.sleep(3)
        postgresql.start()

    thread = threading.Thread(target=restarted)

    def killing(self: Memory, candidate: Candidate) -> Measurement:
        measured.append(candidate)
        if len(measured) == 4:
            postgresql.kill()
            thread.start()
        return measure(self, candidate)

    monkeypatch.setattr(Memory, "measure", killing)
    front = search.run(trials=9)
    thread.join()
    assert [trial.number for trial in front.trials] == [*range(9)]
    assert len({trial.key for trial in front.trials}) == len(measured) == 9
    assert all(trial.state.is_finished() for trial in read_study(postgresql.url, name).trials)


def test_proposals_are_those_of_any_storage(storage: str, folder: Path) -> None:
    told = go_on(opened(storage), 12)
    assert keys(told) == keys(go_on(opened(f"sqlite:///{folder}/beside.db"), 12))


def test_a_trial_is_told_once_though_the_server_could_not_say_so(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(storage)
    tell, told = Study.tell, []

    def unheard(self: Study, *given: Any, **named: Any) -> Any:
        told.append(tell(self, *given, **named))
        if len(told) == 2:
            raise StorageInternalError("internal") from AWAY
        return told[-1]

    monkeypatch.setattr(Study, "tell", unheard)
    found = go_on(study, 4)
    assert len(told) == 4
    assert opened(storage).trials() == found


def failing(cause: Exception, times: int) -> Any:
    """An operation that fails so many times."""
    left = [times]

    def operation() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise StorageInternalError("internal") from cause
        return "done"

    return operation


AWAY = OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))
FULL = OperationalError("INSERT", {}, Exception("database or disk is full"))


def test_what_fails_while_a_server_is_away_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert with_retries(failing(AWAY, 3)) == "done"
    assert caplog.text.count("the storage is away") == 1


def test_patience_ends() -> None:
    with pytest.raises(StorageInternalError):
        with_retries(failing(AWAY, 100), patience_s=0.2)


@pytest.mark.parametrize("cause", [FULL, ValueError("a bug")])
def test_what_waiting_does_not_mend_is_not_waited_for(cause: Exception) -> None:
    began = time.monotonic()
    with pytest.raises(StorageInternalError):
        with_retries(failing(cause, 1))
    assert time.monotonic() - began < 0.1


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://me:secret@127.0.0.1:1/none"
    with pytest.raises(BadInput, match=r"the server does not let us in .*; start it, or mend") as e:
        open_storage(url)
    assert "secret" not in str(e.value)


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(BadInput, match="its driver is not installed"):
        open_storage("oracle://host/name")


def test_there_is_patience_for_a_minute_and_more() -> None:
    assert module.PATIENCE_S >= 60


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of descriptors here")
@pytest.mark.parametrize("read", [read_study, Front.read, open_storage])
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_reading_leaves_no_file_open(
    folder: Path, scheme: str, read: Callable[[str], object]
) -> None:
    storage = f"{scheme}:///{folder}/study.db"
    study = opened(storage)
    go_on(study, 2)
    objectives = [objective.record() for objective in OBJECTIVES.records]
    study.describe({"goals": objectives, "folder": str(folder), "artifacts": ""})
    study.optuna_study.set_user_attr("format", written_by())
    store_study_record(study.optuna_study, IDENTITY, {"version": 1})
    found = [read(storage)]
    before = descriptors()
    found += [read(storage) for _ in range(10)]
    assert descriptors() == before
    assert len(found) == 11


def test_a_study_that_goes_on_keeps_no_file_of_its_database_open(folder: Path) -> None:
    study = opened(f"sqlite:///{folder}/study.db")
    assert len(go_on(study, 3)) == 3
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [one for one in links if str(one.readlink()).startswith(str(folder))]
