"""What another user of the machine has planted is never used, and what is ours is ours alone."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protege.spaces import BadInput
from protege.spaces.files import private as module
from protege.spaces.files.private import (
    OVERRIDE,
    candidates,
    check_untampered,
    made_own,
    made_private,
    private_folder,
)

STRANGER = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def folder_of_a_stranger(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, STRANGER, STRANGER)


def link_to_a_folder(path: Path) -> None:
    path.with_name("elsewhere").mkdir(mode=0o700)
    path.symlink_to("elsewhere")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def link_of_a_stranger(path: Path) -> None:
    link_to_a_folder(path)
    os.lchown(path, STRANGER, STRANGER)


def file(path: Path) -> None:
    path.touch()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def open_to(bits: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        path.chmod(bits)

    make.__name__ = f"{bits:o}"
    return make


PLANTED = [
    pytest.param(folder_of_a_stranger, r"belongs to user \w+, not to you", marks=as_root),
    pytest.param(link_of_a_stranger, "is a symbolic link", marks=as_root),
    (link_to_a_folder, "is a symbolic link"),
    (link_to_nothing, "is a symbolic link"),
    (file, "is not a folder"),
    (pipe, "is not a folder"),
    (open_to(0o777), "has mode 777"),
    (open_to(0o1777), "has mode 1777"),
    (open_to(0o770), "has mode 770"),
    (open_to(0o702), "has mode 702"),
]


@pytest.mark.parametrize(("plant", "wrong"), PLANTED)
@pytest.mark.parametrize("made", [made_private, lambda path: made_own(path, "give another")])
def test_what_another_user_has_planted_is_refused_in_one_line(
    tmp_path: Path, plant: Callable[[Path], None], wrong: str, made: Callable[[Path], Path]
) -> None:
    plant(tmp_path / "place")
    with pytest.raises(BadInput, match=f"^{tmp_path}/place {wrong}.*expected a folder of yours"):
        made(tmp_path / "place")


def test_a_folder_that_others_may_read_is_not_private_but_can_be_executed_from(
    tmp_path: Path,
) -> None:
    open_to(0o755)(tmp_path / "place")
    assert made_own(tmp_path / "place", "") == tmp_path / "place"
    with pytest.raises(BadInput, match="has mode 755, so that other users can use it"):
        made_private(tmp_path / "place")


@pytest.mark.parametrize("umask", [0, 0o002, 0o022, 0o077])
def test_what_is_made_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = made_private(tmp_path / "place")
    finally:
        os.umask(before)
    assert mode(made) == 0o700
    assert made_private(made) == made


def test_a_private_folder_in_one_where_others_can_rename_it_is_refused(tmp_path: Path) -> None:
    open_to(0o777)(tmp_path / "shared")
    with pytest.raises(BadInput, match=f"other users can replace what is in {tmp_path}/shared"):
        made_private(tmp_path / "shared" / "place")
    (tmp_path / "shared").chmod(0o1777)
    assert made_private(tmp_path / "shared" / "place").is_dir()


@pytest.mark.parametrize("name", ["TMPDIR", "XDG_RUNTIME_DIR", "HOME", "XDG_CACHE_HOME"])
def test_every_session_and_job_of_a_user_meets_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(OVERRIDE)
    here = [*candidates()]
    monkeypatch.setenv(name, str(tmp_path))
    assert [*candidates()] == here
    assert str(os.getuid()) in here[0].name


def test_where_one_place_cannot_be_written_the_next_one_serves(tmp_path: Path) -> None:
    places = [tmp_path / "file" / "one", Path("/proc/two"), tmp_path / "three"]
    (tmp_path / "file").touch()
    assert private_folder(places) == tmp_path / "three"
    with pytest.raises(BadInput, match=r"no folder for locks can be made: .*two.*; set PROTEGE_R"):
        private_folder(places[:2])


@pytest.mark.parametrize("where", ["file/in", "/proc/none"])
def test_a_place_given_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(OVERRIDE, str(tmp_path / where))
    with pytest.raises(BadInput, match=f"{where} \\(.*\\); set PROTEGE_RUNTIME_DIR to a folder"):
        private_folder()


@pytest.mark.parametrize(("bits", "safe"), [(0o1777, {True}), (0o777, {False}), (0o755, {True})])
def test_a_shared_folder_counts_only_if_it_keeps_owners_apart(
    tmp_path: Path, bits: int, safe: set[bool]
) -> None:
    tmp_path.chmod(bits)
    assert {module._keeps_owners_apart(tmp_path)} == safe


def handover(folder: Path) -> Path:
    path = folder / "task.pt"
    path.touch(mode=0o600)
    return path


def test_what_this_user_wrote_is_unpickled(tmp_path: Path) -> None:
    check_untampered(handover(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["task.pt"]


@as_root
def test_a_file_of_another_user_is_not_unpickled(tmp_path: Path) -> None:
    path = handover(tmp_path)
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(BadInput, match=r"task\.pt belongs to user \w+, .*not read"):
        check_untampered(path)


@as_root
def test_a_file_in_a_folder_of_another_user_is_not_unpickled(tmp_path: Path) -> None:
    folder = made_private(tmp_path / "workers")
    path = handover(folder)
    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(BadInput, match=r"workers belongs to user \w+, .*not read"):
        check_untampered(path)


@pytest.mark.parametrize("bits", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("of", ["file", "folder"])
def test_what_others_can_write_is_not_unpickled(tmp_path: Path, bits: int, of: str) -> None:
    path = handover(made_private(tmp_path / "workers"))
    (path if of == "file" else path.parent).chmod(bits | 0o500)
    with pytest.raises(BadInput, match="can be written by other users"):
        check_untampered(path)


def test_a_link_is_not_unpickled(tmp_path: Path) -> None:
    handover(tmp_path).rename(tmp_path / "real.pt")
    (tmp_path / "task.pt").symlink_to("real.pt")
    with pytest.raises(BadInput, match="expected no symbolic link"):
        check_untampered(tmp_path / "task.pt")


@as_root
def test_a_stranger_gets_nothing_out_of_the_private_folder_nor_into_it(open_folder: Path) -> None:
    private = made_private(open_folder / "private")
    (private / "runner.pyz").touch()
    attempts = """
import os, sys
os.setgid(65534); os.setuid(65534)
private = sys.argv[1]
for attempt in (
    lambda: os.listdir(private),
    lambda: open(private + "/runner.pyz", "rb"),
    lambda: open(private + "/planted", "wb"),
    lambda: os.rename(private, private + ".old"),
):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit("let in")
"""
    command = [sys.executable, "-I", "-c", attempts, str(private)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
