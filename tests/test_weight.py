"""Help, and all that only reads a study, load none of the heavy dependencies."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.search.toys import toy

MODELS = {"torch", "transformers"}
HEAVY = MODELS | {"optuna", "pandas", "plotly"}


def loaded(code: str, *arguments: object) -> set[str]:
    """The top-level modules that a fresh process has loaded when the code ends."""
    report = "import sys\ntry:\n    {}\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    line = [sys.executable, "-c", report.format(code), *map(str, arguments)]
    found = subprocess.run(line, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in found.stderr.splitlines()[-1].split()}


@pytest.fixture(scope="module")
def run() -> Iterator[Path]:
    """A run folder with a student on its front."""
    with TemporaryDirectory() as name:
        toy(Path(name)).run(trials=4)
        yield Path(name)


def test_help_loads_nothing_that_is_heavy() -> None:
    found = loaded("from protege.search.cli.main import main; main(['--help'])")
    assert "protege" in found
    assert found.isdisjoint(HEAVY)


def test_a_study_is_read_and_a_student_exported_without_its_model(
    run: Path, tmp_path: Path
) -> None:
    code = (
        "from protege.search import Front; front = Front.read(sys.argv[1]); front.knee(); "
        "front.report(); str(front); front.pick().export(sys.argv[2])"
    )
    found = loaded(code, run, tmp_path / "student")
    assert {"protege", "optuna"} <= found
    assert found.isdisjoint(MODELS)
    assert (tmp_path / "student" / "model.safetensors").is_file()


def test_commands_on_a_study_load_no_model(run: Path) -> None:
    code = (
        "from protege.search.cli.main import main; "
        "assert [main([word, sys.argv[1]]) for word in sys.argv[2:]] == [0] * 3"
    )
    assert loaded(code, run, "report", "pick", "export").isdisjoint(MODELS)


def test_a_student_is_picked_without_loading_what_draws(run: Path) -> None:
    code = "from protege.search import Front; str(Front.read(sys.argv[1]).pick())"
    assert "plotly" not in loaded(code, run)
