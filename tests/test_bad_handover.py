"""What can go wrong from a front to a trained student: one line, exit code 2, nothing half done."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer

from protege.search.cli.main import main
from tests import disks
from tests.study_files import write_study
from tests.test_bad_input import contents, refused
from tests.tiny import texts

STEPS = ("--steps", 4, "--batch-size", 4)


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A study in ``run``, its teacher, and its smallest student as an exported folder."""
    folder = tmp_path_factory.mktemp("handed")
    study = write_study(folder)
    assert main(["run", str(study), "--trials", "2"]) == 0
    assert main(["export", str(folder / "run"), "--trial", "1", "--to", str(folder / "out")]) == 0
    data = folder / "data.txt"
    data.write_text("\n".join(texts(40)), encoding="utf-8")
    return SimpleNamespace(
        run=folder / "run", student=folder / "out", teacher=folder / "teacher", data=data
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.csv", "sentence,label\na,1\nb,0\n", "no column 'text'"),
        ("rows.jsonl", '{"sentence": "a"}\n', 'expected an object with "text"'),
        ("none.txt", "", "empty; expected one text per line"),
        ("rows.pdf", "%PDF-1.4", "rows.pdf"),
    ],
)
def test_data_that_cannot_be_read_as_asked(
    handed: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    told: str,
) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    before = contents(handed.student)
    options = ("--teacher", handed.teacher, "--to", tmp_path / "trained", *STEPS)
    assert told in refused(capsys, "train", handed.student, "--data", file, *options)
    assert contents(handed.student) == before
    assert not (tmp_path / "trained").exists()


def test_a_folder_that_protege_did_not_write(
    handed: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data", handed.data, "--to", tmp_path / "trained", *STEPS)
    message = refused(capsys, "train", handed.teacher, *options)
    assert str(handed.teacher) in message
    assert not (tmp_path / "trained").exists()


def test_a_teacher_that_is_gone(
    handed: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data", handed.data, "--to", tmp_path / "trained", *STEPS)
    gone = tmp_path / "gone"
    message = refused(capsys, "train", handed.student, "--teacher", gone, *options)
    assert f"{gone}: no such folder" in message
    message = refused(capsys, "train", handed.student, *options)
    assert "its teacher came from a folder, which is not recorded; name it: --teacher" in message


def test_a_teacher_with_another_tokenizer(
    handed: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(handed.teacher, tmp_path / "other")
    tokenizer = json.loads(Tokenizer.from_file(str(other / "tokenizer.json")).to_str())
    names = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    turned = [*names[:10], *reversed(names[10:])]
    tokenizer["model"]["vocab"] = {name: number for number, name in enumerate(turned)}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    options = ("--data", handed.data, "--to", tmp_path / "trained", *STEPS)
    message = refused(capsys, "train", handed.student, "--teacher", other, *options)
    assert "teacher" in message
    assert not (tmp_path / "trained").exists()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with disks.small_disk(4) as made:
        yield made


def fill(disk: Path, free_kb: int) -> Path:
    """Leave so much room on a disk of four megabytes."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(4 * 2**20 - free_kb * 1024))
    return ballast


def test_no_room_to_export(
    handed: SimpleNamespace, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ballast = fill(small_disk, 24)
    asked = ("export", handed.run, "--trial", 1, "--to", small_disk / "student")
    message = refused(capsys, *asked)
    assert "no space left on the device; make room" in message
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert main([*map(str, asked)]) == 0
    assert (small_disk / "student" / "protege.json").is_file()


def test_no_room_to_train(
    handed: SimpleNamespace, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ballast = fill(small_disk, 60)
    options = ("--teacher", handed.teacher, "--data", handed.data, *STEPS)
    asked = ("train", handed.student, "--to", small_disk / "trained", *options)
    message = refused(capsys, *asked)
    assert "no space left" in message
    assert not (small_disk / "trained").exists()
    ballast.unlink()
    assert main([*map(str, asked)]) == 0
    assert (small_disk / "trained" / "protege.json").is_file()
