"""What others have put in and around a run folder stays, whatever is done to the run."""

import hashlib
import os
import random
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.cli.main import main
from studies.benchmarks.lives import fork_server
from tests.search.records.test_results import scratch_of
from tests.study_files import write_study
from tests.test_survival import killed_at

DEAD = 4190001
"""A process id that no process has."""

BESIDE = """
.env .env.2024 src/.env.2024 src/.x.20260101120000 src/main.py notes.md data/.raw.7 .git/HEAD
artifacts/model.bin artifacts/trial-00000/model.safetensors artifacts/notes checkpoints/trial-7
checkpoints/trial-00001.safetensors records/x.json records/trial-00000.json workers/task.pt
workers/worker-0.log cache/targets.safetensors cache/.targets.4190001 students/best/config.json
report/index.html front.csv front.csv.bak protege-run.json.bak study.db.bak study.db-old.lock
runs/other/artifacts/trial-00000/protege.json runs/other/study.db runs/.hidden.12 runs/notes
runs/toy2/records/trial-00001.json .study.db.4190001 .protege-run.json.4190001.bak
"""
"""In the project folder, which is the database's too."""

INSIDE = """
.env.2024 .x.20260101120000 notes.txt deep/er/.y.4190001 workers/mine.log workers/.task.pt.bak
artifacts/notes artifacts/trial-1/model.safetensors artifacts/trial-99999/model.safetensors
artifacts/.trial-00001.007 artifacts/.notes.4190001 artifacts/trial-00000/mine.txt
artifacts/trial-00001/mine/config.json artifacts/trial-00002/mine.txt artifacts/trial-00003/mine.txt
checkpoints/trial-7.bak checkpoints/trial-00001.safetensors.bak checkpoints/.trial-00001.4190001
records/x.json records/trial-1.json records/.trial-00001.json.20260101120000 cache/mine.safetensors
cache/.mine.4190001 students/mine/config.json report/mine.html measured/notes.json
fidelity/notes.json protege-run.json.bak study.db
"""
"""In the run folder and the folders that protege made there."""


def placed(folder: Path, names: str) -> list[Path]:
    """Write a file under each of these names."""
    paths = [folder / name for name in names.split()]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"mine: {path}", encoding="utf-8")
        path.chmod(0o640)
    return paths


def linked(folder: Path, target: Path, names: str) -> list[Path]:
    """Make a link under each of these names."""
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    return [folder / name for name in names.split()]


def state(paths: list[Path]) -> dict[Path, str]:
    """What each path is: a link and its target, an empty folder, or a file by mode and content."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_dir():
        return f"folder of {len([*path.iterdir()])}"
    if not path.exists():
        return "gone"
    return f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a run of two trials; the database is in the project folder itself."""
    project = tmp_path_factory.mktemp("project")
    paths = [*placed(project, BESIDE), write_study(project)]
    study = project / "study.py"
    text = study.read_text(encoding="utf-8").replace(
        f'folder="{project}/run"', f'storage="sqlite:///{project}/study.db"'
    )
    study.write_text(text, encoding="utf-8")
    before = state(paths)
    assert main(["run", str(study), "--trials", "2"]) == 0
    assert state(paths) == before
    return project / "runs" / "toy"


@pytest.mark.slow
def test_sixty_files_and_folders_stay_after_everything_that_is_done_to_a_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = run.parents[1]
    elsewhere = project / "elsewhere"
    paths = [*(project / name for name in BESIDE.split()), *placed(run, INSIDE)]
    paths += placed(elsewhere, "model.safetensors trial-00001/protege.json .a.4190001")
    names = "artifacts/trial-00098 checkpoints/trial-00097.safetensors records/link workers/link"
    paths += linked(run, elsewhere, f"{names} artifacts/.trial-00001.{DEAD}")
    for name in ("artifacts/empty", "records/empty.json", "empty", "checkpoints/.empty.12"):
        (run / name).mkdir()
        paths.append(run / name)
    assert len(paths) >= 60
    assert not Path(f"/proc/{DEAD}").exists()
    # what a process of protege that died leaves is the one thing that goes
    doomed = scratch_of(run / "checkpoints" / "trial-00001.safetensors", DEAD)
    doomed.touch()
    before = state(paths)
    words, chance = ["run", str(project / "study.py"), "--trials", "6"], random.Random(0)
    with fork_server(project) as lives:
        for phase in ("distil", "store", "store"):
            killed_at(lives, words, phase, chance)
            assert state(paths) == before
        # two at a time, so that there are workers with their own files
        said = [*lives.live([*words, "--jobs", "2"])]
        assert [word for word in said if word.startswith("exit")] == ["exit 0"]
    assert state(paths) == before
    assert not doomed.exists()
    front = Front.read(run)
    assert len(front.trials) == 6
    for command in (
        ["report", run],
        ["report", project / "study.db", "--folder", project / "page"],
        ["pick", run, "--budget", "memory_mb=1"],
        ["export", run, "--trial", front.members[0].number],
        ["run", project / "study.py", "--trials", 6],
    ):
        assert main([str(word) for word in command]) == 0, capsys.readouterr().err
        assert state(paths) == before
    kept = {path.name for path in (run / "artifacts").glob("trial-0000?") if _has_weights(path)}
    assert kept == {f"trial-{trial.number:05d}" for trial in front.members}
    assert os.path.lexists(run / "artifacts" / f".trial-00001.{DEAD}")


def _has_weights(path: Path) -> bool:
    return (path / "model.safetensors").exists() or (path / "protege.json").exists()
