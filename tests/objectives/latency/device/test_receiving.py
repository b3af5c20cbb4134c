import hashlib
import io
import os
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from protege.objectives.latency.device import receiving
from protege.objectives.latency.targets.upload import runner, runner_name


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent is an archive of one file."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(ARCHIVE)))


def archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("prefill/model.onnx")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"model"))
    return buffer.getvalue()


ARCHIVE = archive()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.mark.usefixtures("send")
def test_an_archive_of_the_expected_hash_is_unpacked_under_its_name(tmp_path: Path) -> None:
    assert receiving.keep(tmp_path / "new", "a.tar", SHA256) == {"kept": "a.tar"}
    assert (tmp_path / "new/a.tar/prefill/model.onnx").read_bytes() == b"model"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.tar"]


@pytest.mark.usefixtures("send")
def test_another_hash_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    assert receiving.keep(tmp_path, "a.tar", "0" * 64) == {"wrong": SHA256}
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("send")
def test_who_comes_second_with_the_same_content_changes_nothing(tmp_path: Path) -> None:
    first = tmp_path / "a.tar/first"
    first.parent.mkdir()
    first.touch()
    assert receiving.keep(tmp_path, "a.tar", SHA256) == {"kept": "a.tar"}
    assert [path.name for path in tmp_path.rglob("*")] == ["a.tar", "first"]


@pytest.mark.usefixtures("send")
def test_old_programs_make_room_and_recent_ones_stay(tmp_path: Path) -> None:
    for name, hours in (("recent", 0.5), ("old", 2)):
        place = tmp_path / f"{name}.tar"
        place.mkdir()
        (place / "model").write_bytes(b"12345")
        used_s = time.time() - hours * 3600
        os.utime(place, (used_s, used_s))
    receiving.keep(tmp_path, "a.tar", SHA256, most_bytes=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "recent.tar"]


def test_looking_at_a_program_counts_as_using_it(tmp_path: Path) -> None:
    place = tmp_path / "a.tar"
    place.mkdir()
    os.utime(place, (0, 0))
    assert receiving.look(tmp_path, "a.tar", "b.tar") == {"there": ["a.tar"]}
    assert time.time() - place.stat().st_mtime < 60


def test_a_folder_that_cannot_be_made_is_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    receiving.main("@@", "keep", str(tmp_path / "file" / "in"), "a.tar", SHA256)
    assert capsys.readouterr().out.startswith('\n@@{"failed": "NotADirectoryError: ')


def test_a_module_that_is_not_there_is_missing_with_its_cause(tmp_path: Path) -> None:
    found = receiving.probe(tmp_path, "json", "no_such_module")
    assert found["versions"].keys() == {"json"}
    assert found["missing"] == {
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'"
    }
    assert found["cores"]


def make_open(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def make_for_the_group(place: Path) -> None:
    place.mkdir()
    place.chmod(0o770)


def make_link(place: Path) -> None:
    place.with_name("elsewhere").mkdir()
    place.symlink_to("elsewhere")


def make_of_a_stranger(place: Path) -> None:
    place.mkdir()
    os.chown(place, 65534, 65534)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")


@pytest.mark.usefixtures("send")
@pytest.mark.parametrize("verb", ["look", "keep"])
@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (make_open, "open to other users, with mode 777"),
        (make_for_the_group, "open to other users, with mode 770"),
        (make_link, "not a folder, or a symbolic link"),
        pytest.param(make_of_a_stranger, "of another user, uid 65534", marks=as_root),
    ],
)
def test_a_folder_that_others_can_write_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    make: Callable[[Path], None],
    wrong: str,
) -> None:
    make(tmp_path / "place")
    given = ["a.tar", "b.tar"] if verb == "look" else ["a.tar", SHA256]
    receiving.main("@@", verb, str(tmp_path / "place"), *given)
    said = capsys.readouterr().out
    assert f"PermissionError: {tmp_path}/place is {wrong}; name a folder that only" in said
    assert not [*(tmp_path / "place").iterdir()]


@pytest.mark.usefixtures("send")
def test_a_folder_that_is_made_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        receiving.keep(tmp_path / "place", "a.tar", SHA256)
    finally:
        os.umask(before)
    assert (tmp_path / "place").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", [b"print('planted')", b"", "link", "folder link"])
def test_a_runner_with_other_content_than_its_name_says_is_sent_again(
    tmp_path: Path, planted: bytes | str
) -> None:
    path = tmp_path / runner_name()
    path.write_bytes(runner())
    assert receiving.look(tmp_path, runner_name()) == {"there": [runner_name()]}
    if isinstance(planted, bytes):
        path.write_bytes(planted)
    else:
        path.rename(tmp_path / "real.pyz")
        path.symlink_to("real.pyz" if planted == "link" else tmp_path)
    assert receiving.look(tmp_path, runner_name()) == {"there": []}
