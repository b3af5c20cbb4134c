import ast
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.job import Trace
from protege.objectives.latency.local import fork_server as nursery
from protege.objectives.latency.local.fork_server import INDUCTOR
from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.targets.packing import runner, runner_name
from protege.objectives.latency.targets.target import program_job, runner_here
from protege.spaces import BadInput
from protege.spaces.files.hashing import digest
from protege.spaces.files.private import OVERRIDE, private_folder

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


def test_the_runner_times_a_program_alone(
    program: Callable[[list[str]], Path], brief: Plan
) -> None:
    folder = program(["prefill", "step"])
    job = program_job(Workload(1, 8, 2), brief, 1, (), "normal") | {"programs": [str(folder)]}
    answer = converse([sys.executable, "-I", str(runner_here())], job, deadline_s=60.0)
    assert not isinstance(answer, Broken), answer
    assert Trace.of(answer["trace"]).rounds


def test_the_runner_tells_what_it_cannot_do(tmp_path: Path, brief: Plan) -> None:
    job = program_job(Workload(1, 8), brief, 1, (), "normal") | {"programs": [str(tmp_path)]}
    answer = converse([sys.executable, "-I", str(runner_here())], job, deadline_s=60.0)
    assert isinstance(answer, dict)
    assert answer["failed"].startswith("FileNotFoundError: ")


def test_the_runner_lies_where_no_other_user_can_write() -> None:
    path = runner_here()
    assert path.read_bytes() == runner()
    assert path.parent == private_folder()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.lstat().st_uid == os.getuid()


@pytest.mark.parametrize("planted", [b"print('planted')", b"", runner() + b"more", runner()[:-1]])
@pytest.mark.parametrize("by_link", [False, True])
def test_a_planted_runner_is_replaced_before_it_is_run(
    planted: bytes,
    by_link: bool,  # noqa: FBT001 - a parameter of a test
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "private"))
    path = runner_here()
    victim = tmp_path / "victim"
    victim.write_bytes(planted)
    path.unlink()
    if by_link:
        path.symlink_to(victim)
    else:
        path.write_bytes(planted)
    assert runner_here() == path
    assert path.read_bytes() == runner()
    assert not path.is_symlink()
    assert victim.read_bytes() == planted


def test_a_folder_in_place_of_the_runner_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "private"))
    path = runner_here()
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert runner_here().read_bytes() == runner()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_nothing_runs_from_a_folder_that_another_user_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "private"
    monkeypatch.setenv(OVERRIDE, str(place))
    ran = tmp_path / "ran"
    place.mkdir()
    (place / runner_name()).write_text(f"open({str(ran)!r}, 'w')", encoding="utf-8")
    for path in (place, place / runner_name()):
        os.chown(path, 65534, 65534)
    with pytest.raises(BadInput, match=r"private belongs to user \w+, not to you"):
        converse([sys.executable, str(runner_here())], {}, 20.0)
    assert not ran.exists()


def test_what_is_compiled_is_kept_where_no_other_user_can_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(INDUCTOR, raising=False)
    place = Path(nursery._compiled_in()[INDUCTOR])
    assert place.parent == private_folder()
    assert place.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(INDUCTOR, "/somewhere/of/mine")
    assert nursery._compiled_in() == {}
