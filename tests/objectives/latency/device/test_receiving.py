import hashlib
import io
import os
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from protege.objectives.latency.device import receiving


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
def test_old_programs_make_room_and_recent_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MOST_BYTES", 7)
    for name, hours in (("recent", 0.5), ("old", 2)):
        place = tmp_path / f"{name}.tar"
        place.mkdir()
        (place / "model").write_bytes(b"12345")
        used_s = time.time() - hours * 3600
        os.utime(place, (used_s, used_s))
    receiving.keep(tmp_path, "a.tar", SHA256)
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
