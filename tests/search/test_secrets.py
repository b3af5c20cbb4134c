"""No password reaches a message, a repr, a log or a file; files of a run are their owner's."""

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from protege.objectives import Memory
from protege.search import Front, Search
from protege.search.cli.main import main
from protege.search.engines.engine import StudyTask, prepare, task_file
from protege.search.engines.events import Announce
from protege.search.engines.local import SerialEngine
from protege.search.storage.claim import Claim
from protege.search.storage.locating import database_path, shown
from protege.search.storage.storage import open_storage, read_study
from protege.search.study.store import check_url
from protege.spaces import BadInput, Teacher
from protege.spaces.files.atomic import atomic
from tests.postgres import Server
from tests.search.toys import PLAIN, coordinated, opened, toy, worth

SECRET = "hunter2hunter2"


def plain(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    """A search in that folder that trains nothing."""
    own = {"space": PLAIN, "objectives": [Memory()], "teacher": teacher}
    return toy(folder, **(own | changes))


def with_password(url: str) -> str:
    """The same server; it lets everybody in, whatever the password."""
    return url.replace("postgres@", f"postgres:{SECRET}@")


def of_no_study(url: str) -> None:
    read_study(url)


def of_another_name(url: str) -> None:
    opened(url)
    read_study(url, "another")


def of_a_study_of_others(url: str) -> None:
    opened(url)
    Front.read(url)


def of_an_unfinished_study(url: str) -> None:
    opened(url).describe({"goals": [], "folder": None})
    Front.read(url)


@pytest.mark.parametrize(
    "fails", [of_no_study, of_another_name, of_a_study_of_others, of_an_unfinished_study]
)
def test_no_error_about_a_storage_has_its_password(
    fails: Callable[[str], None], postgresql: Server
) -> None:
    url = with_password(postgresql.database())
    with pytest.raises(BadInput) as error:
        fails(url)
    assert SECRET not in str(error.value)
    assert re.search(r"postgresql(\+psycopg)?://postgres:\*\*\*@127.0.0.1", str(error.value))


@pytest.mark.parametrize("query", [False, True])
def test_the_command_line_names_a_server_without_its_password(
    query: bool,  # noqa: FBT001 - a parameter of the test
    postgresql: Server,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = postgresql.database()
    url = f"{plain}?password={SECRET}" if query else with_password(plain)
    for words in (["report", url], ["--debug", "pick", url]):
        assert main(words) == 2
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert "no study there" in told.err


MALFORMED = {
    "a port that is no number": "postgresql://me:{}@host:port/db",
    "no slashes": "postgresql:me:{}@host/db",
    "one slash too few": "postgresql:/me:{}@host/db",
    "no scheme": "me:{}@host/db",
    "an @ that is not escaped": "postgresql://me:x@{}@host/db",
    "an unknown server": "oracle://me:{}@host/db",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(kind: str) -> None:
    with pytest.raises(BadInput, match=r"^storage .*\*\*\*@.*host") as error:
        open_storage(MALFORMED[kind].format(SECRET))
    assert SECRET not in str(error.value)


@given(
    st.text(st.characters(exclude_categories=["C"]), max_size=20),
    st.sampled_from(["postgresql", "mysql+pymysql", "mssql+pyodbc"]),
)
def test_a_storage_is_shown_without_its_password_whatever_that_is(more: str, driver: str) -> None:
    query = {"sslpassword": SECRET + more, "odbc_connect": f"PWD={SECRET}"}
    url = URL.create(driver, "me", SECRET + more, "host", 5432, "db", query)
    for given_as in (url, url.render_as_string(hide_password=False)):
        assert shown(given_as) == f"{driver}://me:***@host:5432/db?***"


@pytest.mark.parametrize("storage", ["sqlite:///runs/a@b/study.db", "journal:////x/100%.log"])
def test_a_storage_that_is_a_file_is_shown_as_it_was_given(storage: str) -> None:
    assert shown(storage) == storage
    assert database_path(storage) is not None


@pytest.mark.parametrize(
    "url", ["s3://AKIAKEY:{}@bucket/prefix", "s3://{}@bucket", "s3://bucket/x?secret_key={}"]
)
def test_a_store_with_credentials_in_its_url_is_refused_without_showing_them(url: str) -> None:
    with pytest.raises(BadInput, match="expected no credentials in it") as error:
        check_url(url.format(SECRET))
    assert f":{SECRET}" not in str(error.value)
    assert f"={SECRET}" not in str(error.value)


def test_no_repr_has_the_password(folder: Path, teacher: Teacher) -> None:
    url = f"postgresql://me:{SECRET}@host/db?password={SECRET}"
    search = toy(folder, teacher=teacher, storage=url, earlier=[url], folder=folder)
    assert SECRET not in repr(search)
    assert SECRET not in repr(Claim(URL.create("postgresql", query={"password": SECRET}), "toy"))


def test_a_database_error_does_not_show_what_was_stored(storage: str) -> None:
    engine: Any = open_storage(storage)
    query = text("SELECT * FROM nothing WHERE at = :at")
    with engine.engine.connect() as connection, pytest.raises(OperationalError) as error:
        connection.execute(query, {"at": SECRET})
    assert SECRET not in str(error.value)


def test_a_reason_is_stored_without_the_secret_in_it(storage: str) -> None:
    study = opened(storage)
    found = worth(*study.ask())
    reason = f"OSError: https://me:{SECRET}@host does not answer"
    study.add_crash(found.number, reason)
    study.tell(replace(found, reason=reason))
    assert SECRET not in str(read_study(storage).trials[0].user_attrs)
    assert SECRET.encode() not in Path(storage.removeprefix("sqlite:///")).read_bytes()


class Saving(SerialEngine):
    """An engine that writes its task to a file, as those with workers do."""

    path: Path

    def start(self, task: StudyTask, announce: Announce) -> None:
        self.path = prepare(task.folder)
        task.save(self.path)
        super().start(task, announce)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_the_task_of_workers_is_its_owners_and_has_no_password(
    kind: str, folder: Path, teacher: Teacher, umask: int, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{folder}/study.db"
    if kind == "postgresql":
        url = with_password(request.getfixturevalue(kind).database())
    search = plain(folder / "run", teacher, storage=url, private=False)
    engine, before = Saving(), os.umask(umask)
    try:
        search.run(trials=1, engine=engine)
    finally:
        os.umask(before)
    assert SECRET.encode() not in engine.path.read_bytes()
    assert stat.S_IMODE(engine.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.path.parent.stat().st_mode) == 0o700
    assert StudyTask.load(engine.path).objectives == search.objectives


def test_the_task_of_a_process_that_was_killed_is_removed_by_the_next(
    folder: Path, teacher: Teacher
) -> None:
    search, left = plain(folder, teacher), task_file(folder)
    search.run(trials=1)
    left.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    own = atomic(left).scratch
    scratch = own.with_name(own.name.replace(f".{os.getpid()}.", f".{dead.pid}."))
    log = left.with_name("worker-0.log")
    for path in (left, scratch, log):
        path.write_bytes(b"left")
    with coordinated(search):
        assert [*left.parent.iterdir()] == [log]


@pytest.fixture
def public() -> Iterator[None]:
    """The umask that most systems have."""
    before = os.umask(0o022)
    yield
    assert os.umask(before) == 0o022


def modes(folder: Path) -> set[tuple[bool, str]]:
    """The modes of files and of folders, the given one among them."""
    paths = [folder, *folder.rglob("*")]
    return {(path.is_dir(), oct(stat.S_IMODE(path.stat().st_mode))) for path in paths}


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_files_of_a_run_are_for_their_owner_alone(
    scheme: str, folder: Path, teacher: Teacher
) -> None:
    run = folder / "runs" / "mine"
    search = plain(run, teacher, storage=f"{scheme}:///{run}/study.db")
    assert search.cache.folder.parent == run  # also when it is used before any run
    front = search.run(trials=2)
    front.report()
    front.keep("there", {"models": {}})
    assert modes(run) == {(True, "0o700"), (False, "0o600")}
    assert stat.S_IMODE(run.parent.stat().st_mode) == 0o755
    elsewhere = front.report(folder / "elsewhere")
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o644


@pytest.mark.usefixtures("public")
def test_a_run_is_shared_if_that_is_asked_for(folder: Path, teacher: Teacher) -> None:
    front = plain(folder / "mine", teacher, private=False).run(trials=2)
    front.report()
    (weights,) = (folder / "mine").glob("artifacts/*/model.safetensors")
    assert stat.S_IMODE(weights.stat().st_mode) == 0o644
    # a lock that others could hold would keep the study waiting
    locks = [*(folder / "mine").rglob("*.lock")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in locks} == {0o600}
    for path in locks:
        path.unlink()
    assert modes(folder / "mine") == {(True, "0o755"), (False, "0o644")}


@pytest.mark.usefixtures("public")
def test_a_folder_that_was_there_keeps_its_mode(folder: Path, teacher: Teacher) -> None:
    (folder / "mine").mkdir()
    plain(folder / "mine", teacher).run(trials=1)
    assert not [path for path in (folder / "mine").rglob("*") if path.stat().st_mode & 0o077]
    assert stat.S_IMODE((folder / "mine").stat().st_mode) == 0o755
