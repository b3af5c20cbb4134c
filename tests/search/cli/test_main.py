import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.cli.main import guarded, main
from protege.spaces import BadInput
from tests.study_files import write_study


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that succeeds prints."""
    capsys.readouterr()  # what was said before
    assert main([str(word) for word in words]) == 0
    output = capsys.readouterr()
    # a slow machine reports its progress
    assert all(line.startswith(("toy: ", "loading ")) for line in output.err.splitlines())
    return output.out


def test_every_trial_that_ends_leaves_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["run", str(write_study(folder)), "--trials", "4"]) == 0
    lines = capsys.readouterr().err.splitlines()
    for trial in Front.read(folder / "run").trials:
        (line,) = [one for one in lines if one.startswith(f"toy: {trial.label}: ")]
        assert ("the teacher" in line) == (trial.number == 0)


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out == f"{version('protege')}\n"


def test_run_prints_front_hypervolume_time_and_where_the_report_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = said(capsys, "run", write_study(folder), "--trials", 4)
    front = Front.read(folder / "run")
    assert len(front.trials) == 4
    assert f"{len(front.students)} student" in output
    assert "on the front after 4 trials" in output
    assert f"{front.hypervolume:.4f}" in output
    assert "distil" in output
    report = folder / "run" / "report" / "index.html"
    assert str(report) in output
    assert "<html" in report.read_text(encoding="utf-8")


def test_the_same_line_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(folder)
    said(capsys, "run", study, "--trials", 2)
    said(capsys, "run", study, "--trials", 3)
    assert [trial.number for trial in Front.read(folder / "run").trials] == [0, 1, 2]


def test_report_writes_where_it_is_told(
    run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = said(capsys, "report", run_folder, "--folder", folder / "page")
    assert str(folder / "page" / "index.html") in output
    assert (folder / "page" / "index.html").exists()


@pytest.mark.parametrize(
    "budget", ["--budget memory_mb=0.06", "--memory-mb=0.06", "--memory_mb 0.06"]
)
def test_pick_names_the_best_student_within_a_budget(
    run_folder: Path, front: Front, capsys: pytest.CaptureFixture[str], budget: str
) -> None:
    output = said(capsys, "pick", run_folder, *budget.split())
    assert output.startswith(f"{front.pick(memory_mb=0.06)}\n")


def test_export_writes_the_best_student_or_the_one_named(
    run_folder: Path, front: Front, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = said(capsys, "export", run_folder, "--memory-mb", 0.06, "--to", folder / "best")
    assert front.pick(memory_mb=0.06).trial.label in best
    number = front.members[0].number
    named = said(capsys, "export", run_folder, "--trial", number, "--to", folder / "named")
    assert f"Student: {folder / 'named'}" in named
    for name in ("best", "named"):
        assert (folder / name / "model.safetensors").exists()


def test_a_study_file_stands_for_its_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(folder)
    said(capsys, "run", study, "--trials", 4)
    one, other = (said(capsys, "pick", run).splitlines() for run in (study, folder / "run"))
    assert one[:-1] == other[:-1]
    assert one[-1].startswith(f"To export it: protege export {study} --trial ")


@pytest.mark.parametrize("by", ["activation", "gradient", "ablation"])
def test_heads_writes_a_page_and_a_table_and_names_the_least(
    folder: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    write_study(folder)
    given = [folder / "teacher", "--texts", folder / "corpus.txt", "--by", by, "--tokens", 200]
    output = said(capsys, "heads", *given, "--to", folder / "out")
    assert output.splitlines()[0] == f"Least important by {by}:"
    assert output.count("encoder.heads") == 5
    for name in ("heads.html", "heads.csv"):
        assert str(folder / "out" / name) in output
        assert (folder / "out" / name).is_file()


def test_heads_of_a_study_are_those_of_its_teacher_on_its_texts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "heads", write_study(folder))
    assert len((folder / "run" / "heads.csv").read_text().splitlines()) == 1 + 4 * 6


def test_ctrl_c_ends_a_command_with_its_own_code_and_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err.splitlines() == [
        "protege: stopped. Finished trials are saved; run the same command to resume."
    ]


def test_an_error_of_several_lines_is_printed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> None:
        raise BadInput("first\n  second")

    assert guarded(refused) == 2
    assert capsys.readouterr().err == "protege: error: first second\n"


def test_an_error_nobody_foresaw_is_not_hidden() -> None:
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        guarded(broken)


@pytest.mark.parametrize("trials", ["0", "-1", "many", "1.5"])
def test_trials_are_a_whole_number_above_none(
    capsys: pytest.CaptureFixture[str], trials: str
) -> None:
    assert main(["run", "study.py", "--trials", trials]) == 2
    told = capsys.readouterr().err
    assert re.match(r"protege: error: Invalid value .*--trials.*; see protege run --help\n$", told)


@pytest.mark.slow
def test_the_module_is_the_command(folder: Path) -> None:
    study = write_study(folder)
    line = [sys.executable, "-m", "protege.search.cli.main", "run", str(study), "--trials", "2"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert all(line.startswith(("toy: ", "loading ")) for line in done.stderr.splitlines())
    assert "toy" in done.stdout
    assert len(Front.read(folder / "run").trials) == 2
