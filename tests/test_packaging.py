"""What is installed is one import package, complete, with nothing beside it."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import CASES, save, texts

ROOT = Path(__file__).parents[1]
FOLDERS = ("search", "objectives", "spaces")
SHIPPED = {".py", ".html", ".js", ".md", ".pyi", ".jinja"}

STUDY = """
import sys
from importlib.util import find_spec
from pathlib import Path

import protege.search
from protege.objectives import Distillation, Parameters, Retention, Texts
from protege.search import Search
from protege.spaces import Range, SearchSpace, Teacher

site, folder = map(Path, sys.argv[1:])
assert Path(protege.search.__file__).is_relative_to(site), protege.search.__file__
assert not any((site / name).exists() for name in ("search", "spaces", "objectives", "tests"))
for name in ("search", "spaces", "objectives"):
    found = find_spec(name)
    assert found is None or "site-packages" in str(found.origin), found

texts = Texts.from_file(folder / "corpus.txt")
study = Search(
    name="tiny",
    teacher=Teacher.load(folder / "teacher"),
    space=SearchSpace(layers=Range(0.25, 1.0)),
    objectives=[Parameters(), Retention()],
    distillation=Distillation(texts, steps=2, batch_size=4, max_tokens=8),
    folder=folder / "run",
)
front = study.run(trials=2)
assert len(front.trials) == 2, front.trials
assert not {"search", "spaces", "objectives"} & set(sys.modules)
print("done")
"""


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """The output of a command that must succeed, run in that folder."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def declared() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def shipped() -> set[str]:
    """The files of the three folders, by their names in the wheel."""
    return {
        f"protege/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing an earlier build left behind can get in."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=left)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, folder=source)
    (built,) = out.iterdir()
    return built


def test_packages_are_the_folders_that_have_an_init() -> None:
    folders = {
        f"protege.{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert set(declared()["tool"]["setuptools"]["packages"]) == folders


def test_every_folder_with_modules_has_an_init() -> None:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_every_folder_is_typed() -> None:
    assert {f"protege/{folder}/py.typed" for folder in FOLDERS} <= shipped()


def test_the_wheel_has_every_file_and_no_other_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    distribution = f"protege-{declared()['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"protege", distribution}
    assert {name for name in names if name.startswith("protege/")} == shipped()


def test_the_wheel_declares_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "protege = protege.search.cli.main:main" in archive.read(points).decode()


@pytest.mark.slow
def test_an_installed_wheel_runs_a_study_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*install, "--target", site, wheel, folder=tmp_path)
    save(CASES["bert-sentences"].teacher(), elsewhere / "teacher")
    (elsewhere / "corpus.txt").write_text("\n".join(texts(40)), encoding="utf-8")
    (tmp_path / "study.py").write_text(STUDY, encoding="utf-8")
    told = run(
        sys.executable,
        tmp_path / "study.py",
        site,
        elsewhere,
        folder=elsewhere,
        PYTHONPATH=str(site),
        HF_HUB_OFFLINE="1",
    )
    assert told.endswith("done\n")
