import ast
import hashlib
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.job import Trace
from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.targets.target import program_job
from protege.objectives.latency.targets.upload import (
    program_upload,
    runner,
    runner_name,
    runner_upload,
)
from protege.spaces.files.hashing import digest

DEVICE = "protege.objectives.latency.device"
SOURCES = [file for file in files(DEVICE).iterdir() if file.name.endswith(".py")]


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """Modules that the mere import of a file imports."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_what_runs_on_a_device_is_python_3_8_of_the_standard_library(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 8))
    others = [one for one in imported_at_once(tree) if not one.startswith(f"{DEVICE}.")]
    assert {one.split(".")[0] for one in others} <= set(sys.stdlib_module_names)


def test_the_runner_is_the_same_bytes_whenever_it_is_packed() -> None:
    assert runner.__wrapped__() == runner()
    moments = {entry.date_time for entry in zipfile.ZipFile(BytesIO(runner())).infolist()}
    assert moments == {(1980, 1, 1, 0, 0, 0)}
    assert digest(runner()) in runner_name()


def test_the_runner_holds_the_device_and_nothing_else() -> None:
    names = zipfile.ZipFile(BytesIO(runner())).namelist()
    begins = ["__main__.py", *(f"{'/'.join(DEVICE.split('.')[:n])}/__init__.py" for n in (1, 2, 3))]
    folder = DEVICE.replace(".", "/")
    assert sorted(names) == sorted([*begins, *(f"{folder}/{file.name}" for file in SOURCES)])


@pytest.fixture
def packed(tmp_path: Path) -> list[str]:
    """The command that runs the runner as it is sent."""
    path = tmp_path / runner_name()
    path.write_bytes(runner())
    return [sys.executable, "-I", str(path)]


def test_the_runner_times_a_program_alone(
    program: Callable[[list[str]], Path], brief: Plan, packed: list[str]
) -> None:
    folder = program(["prefill", "step"])
    job = program_job(Workload(1, 8, 2), brief, 1, (), "normal") | {"programs": [str(folder)]}
    answer = converse(packed, job, deadline_s=60.0)
    assert not isinstance(answer, Broken), answer
    assert Trace.of(answer["trace"]).rounds


def test_the_runner_tells_what_it_cannot_do(tmp_path: Path, brief: Plan, packed: list[str]) -> None:
    job = program_job(Workload(1, 8), brief, 1, (), "normal") | {"programs": [str(tmp_path)]}
    answer = converse(packed, job, deadline_s=60.0)
    assert isinstance(answer, dict)
    assert answer["failed"].startswith("FileNotFoundError: ")


def exported(folder: Path, content: str) -> Path:
    (folder / "prefill").mkdir(parents=True)
    (folder / "prefill/model.onnx").write_text(content)
    (folder / MANIFEST).write_text("{}")
    return folder


def test_the_same_files_are_one_parcel_wherever_and_whenever(tmp_path: Path) -> None:
    first, second = exported(tmp_path / "a", "model"), exported(tmp_path / "b", "model")
    os.utime(second / "prefill/model.onnx", (1, 1))
    (second / MANIFEST).chmod(0o600)
    one, other = program_upload(first), program_upload(second)
    assert (one.name, one.sha256) == (other.name, other.sha256)
    assert one.name == f"{one.sha256[:16]}.tar"
    assert program_upload(exported(tmp_path / "c", "another")).name != one.name


def test_what_is_sent_has_the_hash_that_the_parcel_names(tmp_path: Path) -> None:
    upload = program_upload(exported(tmp_path / "a", "model"))
    with upload.opened() as content:
        assert hashlib.sha256(content.read()).hexdigest() == upload.sha256
        content.seek(0)
        with tarfile.open(fileobj=content) as archive:
            assert archive.getnames() == ["prefill/model.onnx", MANIFEST]


def test_a_program_that_was_exported_anew_is_another_parcel(tmp_path: Path) -> None:
    folder = exported(tmp_path / "a", "model")
    before = program_upload(folder)
    (folder / "prefill/model.onnx").write_text("another")
    os.utime(folder / MANIFEST, (1, 1))
    assert program_upload(folder).name != before.name


def test_the_runner_is_a_parcel_too() -> None:
    upload = runner_upload()
    with upload.opened() as content:
        assert content.read() == runner()
    assert upload.sha256 == hashlib.sha256(runner()).hexdigest()
