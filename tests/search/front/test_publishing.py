"""What Optuna Dashboard shows is written after each trial and at the end, and never fails a run."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from optuna_dashboard import get_note

from protege.search import Front, Search, State
from protege.search.cli.studying import finish
from protege.search.front.live import LiveDashboard
from protege.search.front.publishing import REPORT, RunningNotes, publish, report_id
from protege.search.report.notes import trial_note
from protege.search.storage.attributes import system_attributes
from protege.search.storage.storage import OptunaStudy, read_study
from protege.search.study.shown import declared_files
from protege.spaces import Teacher
from studies.benchmarks.postgres import Server
from tests import s3
from tests.search.toys import toy


@pytest.fixture
def copy(run_folder: Path, folder: Path) -> Path:
    """A copy of a run, as it was before anything but notes was written."""
    return Path(shutil.copytree(run_folder, folder / "run"))


def note_of(study: OptunaStudy, number: int) -> str:
    trial = study.trials[number]._trial_id
    return str(system_attributes(study)[f"dashboard:{trial}:note_str:0"])


def plots_of(study: OptunaStudy) -> set[str]:
    names = (name.split(":") for name in system_attributes(study) if ":plot_data:" in name)
    return {parts[2] for parts in names}


def test_a_run_writes_the_notes_of_all_its_trials(run_folder: Path) -> None:
    front, study = Front.read(run_folder), read_study(run_folder / "study.db")
    for trial in front.trials:
        assert note_of(study, trial.number) == trial_note(front, trial)
    assert "The student at the knee of the front" in get_note(study)
    assert not (run_folder / "dashboard").exists()


def test_the_end_of_a_run_writes_report_plots_cards_and_curves(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front, study = Front.read(copy), read_study(copy / "study.db")
    finish(front, study)
    assert "Report: " in capsys.readouterr().out
    assert {"protege-pair-0", "protege-growth", "protege-sizes"} <= plots_of(study)
    assert declared_files(study).keys() == {REPORT, "front.csv"}
    assert f"](/artifacts/1/{report_id(front)})" in get_note(study)
    kept = {path.name: path for path in (copy / "dashboard").iterdir()}
    assert kept[report_id(front)].read_bytes() == (copy / "report" / "index.html").read_bytes()
    trained = [trial for trial in front.trials if trial.training or trial.rungs]
    assert len(kept) == 2 + len(trained) + len(front.students)
    assert sum(b"# " in path.read_bytes()[:400] for path in kept.values()) >= len(front.students)
    finish(front, study)
    assert len([*(copy / "dashboard").iterdir()]) == len(kept)


def test_notes_of_a_run_follow_the_front(folder: Path, run_folder: Path) -> None:
    shutil.copy(run_folder / "study.db", folder)
    front, study = Front.read(run_folder), read_study(folder / "study.db")
    leaves = front.students[0]
    notes = RunningNotes(lambda _, trials: replace(front, trials=tuple(trials)))
    without = [one for one in front.trials if one.number != leaves.number]
    notes.write(study, front.about, without, without[-1])
    assert "**The study runs.**" in get_note(study)
    before = note_of(study, leaves.number)
    beaten = replace(leaves, state=State.FAILED, reason="beaten")
    notes.write(study, front.about, [*without, beaten], beaten)
    assert "Failed: beaten" in note_of(study, leaves.number)
    assert "Failed" not in before


def test_a_note_that_cannot_be_written_is_a_warning(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    front, study = Front.read(copy), read_study(copy / "study.db")
    with closing(sqlite3.connect(copy / "study.db")) as database, database:
        database.execute("ALTER TABLE study_system_attributes RENAME TO away")
    notes = RunningNotes(lambda _, trials: replace(front, trials=tuple(trials)))
    notes.write(study, front.about, front.trials, front.trials[-1])
    (told,) = caplog.messages
    assert told.startswith("protege: Optuna Dashboard is behind on study 'toy': ")
    assert "\n" not in told


def test_files_that_cannot_be_written_are_a_warning_and_notes_are_written_all_the_same(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "dashboard").write_text("mine")
    front, study = Front.read(copy), read_study(copy / "study.db")
    study._storage.set_study_system_attr(study._study_id, "dashboard:note_ver", 9)
    publish(replace(front, name="another"), study, front.shown_files(), "report")
    assert "Optuna Dashboard is behind on study 'another': " in caplog.messages[0]
    assert "study another" in get_note(study)


def test_a_dashboard_brings_a_run_up_to_date_once(copy: Path) -> None:
    shown = LiveDashboard.of(copy)
    shown.refresh()
    front = Front.read(copy)
    with shown.open_reader(report_id(front)) as file:
        assert b"<html" in file.read()
    (copy / "dashboard" / report_id(front)).unlink()
    shown.refresh()
    assert not (copy / "dashboard" / report_id(front)).exists()


@pytest.fixture
def stored(server: s3.Server, folder: Path, teacher: Teacher) -> Search:
    """A study with an artifact store."""
    return toy(folder, teacher=teacher, artifacts=f"s3://{server.bucket}/toy", race=None)


@pytest.mark.slow
def test_files_are_in_the_artifact_store_and_stay_there(
    stored: Search, server: s3.Server, folder: Path
) -> None:
    stored.run(trials=2)
    weights = {*server.names()}
    shown = LiveDashboard.of(folder)
    shown.refresh()
    files = {*server.names()} - weights
    assert f"toy/{report_id(Front.read(folder))}" in files
    assert not (folder / "dashboard").exists()
    for name in server.names():
        with shown.open_reader(name.rpartition("/")[2]) as file:
            assert file.read()
    stored.run(trials=4)
    assert files <= {*server.names()}


@pytest.mark.slow
def test_a_study_on_a_server_is_shown_too(
    postgresql: Server, folder: Path, teacher: Teacher
) -> None:
    url = postgresql.url
    toy(folder, teacher=teacher, storage=url, folder=folder / "run", race=None).run(trials=2)
    shown = LiveDashboard.of(url, "toy")
    shown.refresh()
    assert "`protege pick RUN`" in get_note(shown.study)
    assert url not in get_note(shown.study)
    assert plots_of(shown.study)
