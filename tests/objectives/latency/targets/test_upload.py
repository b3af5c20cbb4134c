import hashlib
import os
import tarfile
from pathlib import Path

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.targets.packing import runner
from protege.objectives.latency.targets.upload import program_parcel, runner_parcel


def program(folder: Path, content: str) -> Path:
    (folder / "prefill").mkdir(parents=True)
    (folder / "prefill/model.onnx").write_text(content)
    (folder / MANIFEST).write_text("{}")
    return folder


def test_the_same_files_are_one_parcel_wherever_and_whenever(tmp_path: Path) -> None:
    first, second = program(tmp_path / "a", "model"), program(tmp_path / "b", "model")
    os.utime(second / "prefill/model.onnx", (1, 1))
    (second / MANIFEST).chmod(0o600)
    one, other = program_parcel(first), program_parcel(second)
    assert (one.name, one.sha256) == (other.name, other.sha256)
    assert one.name == f"{one.sha256[:16]}.tar"
    assert program_parcel(program(tmp_path / "c", "another")).name != one.name


def test_what_is_sent_has_the_hash_that_the_parcel_names(tmp_path: Path) -> None:
    parcel = program_parcel(program(tmp_path / "a", "model"))
    with parcel.opened() as content:
        assert hashlib.sha256(content.read()).hexdigest() == parcel.sha256
        content.seek(0)
        with tarfile.open(fileobj=content) as archive:
            assert archive.getnames() == ["prefill/model.onnx", MANIFEST]


def test_a_program_that_was_exported_anew_is_another_parcel(tmp_path: Path) -> None:
    folder = program(tmp_path / "a", "model")
    before = program_parcel(folder)
    (folder / "prefill/model.onnx").write_text("another")
    os.utime(folder / MANIFEST, (1, 1))
    assert program_parcel(folder).name != before.name


def test_the_runner_is_a_parcel_too() -> None:
    parcel = runner_parcel()
    with parcel.opened() as content:
        assert content.read() == runner()
    assert parcel.sha256 == hashlib.sha256(runner()).hexdigest()
