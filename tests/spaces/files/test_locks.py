"""Locks that other users cannot take, and waiting that says for whom; with real processes."""

import fcntl
import logging
import multiprocessing
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from protege.search.storage.claim import held
from protege.spaces import BadInput
from protege.spaces.files import locks
from protege.spaces.files.locks import locked, of_this_user
from protege.spaces.files.private import OVERRIDE

STRANGER = 65534
FORK = multiprocessing.get_context("fork")
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")

Take = Callable[[Path], Any]


def study(path: Path) -> Any:
    return held(path.parent, "toy", path.name)


TAKERS = [locked, study]
"""Whatever locks a file: those that wait, and a study, which does not."""


@pytest.fixture
def started() -> Iterator[Callable[..., BaseProcess]]:
    """Starts a process that is ended with the test."""
    found: list[BaseProcess] = []

    def start(target: Callable[..., None], *given: Any) -> BaseProcess:
        process = FORK.Process(target=target, args=given, daemon=True)
        process.start()
        found.append(process)
        return process

    yield start
    for process in found:
        process.kill()
        process.join()


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("umask", [0, 0o022])
@pytest.mark.parametrize("before", [None, 0o644, 0o666])
def test_nobody_else_can_open_a_lock_whatever_made_it(
    tmp_path: Path, take: Take, umask: int, before: int | None
) -> None:
    path = tmp_path / "some.lock"
    if before is not None:  # as an earlier version left it
        path.touch()
        path.chmod(before)
    old = os.umask(umask)
    try:
        with take(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_lock_is_not_followed(
    tmp_path: Path,
    take: Take,
    there: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    victim = tmp_path / "victim"
    if there:
        victim.write_text("precious", encoding="utf-8")
    (tmp_path / "some.lock").symlink_to(victim)
    with pytest.raises(BadInput, match=r"some\.lock: a symbolic link, which is not followed"):
        take(tmp_path / "some.lock").__enter__()
    assert victim.exists() == there
    assert not there or victim.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, take: Take, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "some.lock")
    with pytest.raises(BadInput, match=r"some\.lock: not a file that can be locked"):
        take(tmp_path / "some.lock").__enter__()


def as_stranger(path: Path, take: Take, said: Any) -> None:
    os.setgid(STRANGER)
    os.setuid(STRANGER)
    try:
        with take(path):
            said.put("taken")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
        said.put(f"{type(error).__name__}: {error}")


@as_root
@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("inside", ["", "closed"])
def test_another_users_lock_is_one_line_that_names_the_owner(
    open_folder: Path, started: Callable[..., BaseProcess], take: Take, inside: str
) -> None:
    path = open_folder / inside / "some.lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with take(path):
        said = FORK.Queue()
        started(as_stranger, path, take, said)
        told = said.get(timeout=20)
    whose = "its folder does not let user" if inside else "it belongs to user root"
    assert told.startswith(f"BadInput: {path}: cannot be locked, {whose}")


def plain(path: Path) -> Any:
    """Any other program that locks what it can open."""
    return Opened(path)


class Opened:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.file = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __exit__(self, *_: object) -> None:
        os.close(self.file)


@as_root
@pytest.mark.parametrize("take", TAKERS)
def test_a_stranger_cannot_take_a_lock_that_lies_open(
    open_folder: Path, started: Callable[..., BaseProcess], take: Take
) -> None:
    with take(open_folder / "some.lock"):
        pass
    said = FORK.Queue()
    started(as_stranger, open_folder / "some.lock", plain, said)
    assert said.get(timeout=20).startswith("PermissionError: ")


@as_root
def test_locks_of_this_user_are_refused_where_a_stranger_has_planted_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "planted"))
    (tmp_path / "planted").mkdir()
    os.chown(tmp_path / "planted", STRANGER, STRANGER)
    with pytest.raises(BadInput, match=r"planted belongs to user \w+, not to you"):
        of_this_user("turn")


def hold(path: Path, taken: Any) -> None:
    with locked(path):
        taken.set()
        time.sleep(3600)


def test_who_waits_says_whom_for_and_again_until_it_has_it(
    tmp_path: Path,
    started: Callable[..., BaseProcess],
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken = FORK.Event()
    holder = started(hold, tmp_path / "some.lock", taken)
    assert taken.wait(20)
    caplog.set_level(logging.WARNING, logger="protege")

    def release() -> None:
        while len(caplog.messages) < 2:
            time.sleep(0.01)
        holder.kill()

    threading.Thread(target=release, daemon=True).start()
    with locked(tmp_path / "some.lock", warn_s=(0.05, 0.05)):
        told = len(caplog.messages)
    assert {*caplog.messages} == {f"waiting for {tmp_path}/some.lock, held by process {holder.pid}"}
    time.sleep(0.15)
    assert len(caplog.messages) == told  # it has the lock, and says no more


@pytest.mark.parametrize("noted", [b"", b"4711@elsewhere", b"\xff\xfe"])
def test_a_holder_on_another_machine_is_named_with_it(tmp_path: Path, noted: bytes) -> None:
    path = tmp_path / "some.lock"
    path.write_bytes(noted)
    expected = {b"": "unknown", b"\xff\xfe": "\ufffd\ufffd"}.get(noted, noted.decode("latin1"))
    assert locks.holder(path) == expected
    with locked(path):
        assert locks.holder(path) == str(os.getpid())
    assert path.read_bytes().strip() == f"{os.getpid()}@{socket.gethostname()}".encode()
