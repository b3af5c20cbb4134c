import ast
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.conversation import Broken, converse
from protege.objectives.latency.job import Trace
from protege.objectives.latency.packing import runner, runner_name
from protege.objectives.latency.target import program_job, runner_here
from protege.spaces.cache import digest

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
    for module in imported_at_once(tree):
        ours = module.startswith(f"{DEVICE}.")
        assert ours or module.split(".")[0] in sys.stdlib_module_names, module


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
