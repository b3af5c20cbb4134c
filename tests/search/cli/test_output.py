"""How much a command shows: quiet, verbose, JSON, help, and the first line."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.cli.main import COMMANDS, main
from tests.study_files import write_study

PROTEGE = [sys.executable, "-m", "protege.search.cli.main"]


def run(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """What a run of three trials prints on stdout and stderr."""
    study = write_study(folder)
    capsys.readouterr()
    assert main(["run", str(study), "--trials", "3", *words]) == 0
    return capsys.readouterr()


def test_quiet_prints_the_result_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, errors = run(folder, capsys, "--quiet")
    assert errors == ""
    assert "on the front after 3 trials" in output


def test_verbose_prints_phases_and_rungs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, errors = run(folder, capsys, "-v")
    lines = errors.splitlines()
    assert "toy: measuring importance" in lines
    assert any(line.endswith(": weight reconstruction") for line in lines)
    assert any(": rung at step 0, memory_mb " in line for line in lines)


def test_the_end_of_a_run_says_sizes_and_what_to_do_next(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    output, _ = run(folder, capsys)
    front = Front.read(folder / "run")
    knee = front.knee().trial
    assert f"Knee of the front: trial {knee.number}, " in output
    assert front.share_of_teacher(knee) in output
    after = output.splitlines()
    commands = [line.strip() for line in after[after.index("Next:") + 1 :]]
    assert [command.split()[:3] for command in commands] == [
        ["protege", name, "run"]
        for name in ("pick", "export", "confirm", "train", "report", "dashboard")
    ]
    advice = after[after.index("Advice:") + 1 : after.index("Advice:") + 4]
    assert [line.strip() for line in advice if line] == front.advice()[:3]
    for command in (commands[0], commands[1], commands[4]):
        assert main(command.split()[1:]) == 0
    assert (folder / "run" / "students" / knee.label / "model.safetensors").is_file()


def test_json_is_one_object_on_stdout_beside_progress_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, errors = run(folder, capsys, "--json")
    found = json.loads(output)
    front = Front.read(folder / "run")
    assert found["study"] == "toy"
    assert found["trials"] == 3
    assert found["hypervolume"] == front.hypervolume
    assert [one["trial"] for one in found["front"]] == [one.number for one in front.students]
    assert Path(found["report"]).is_file()
    assert errors.splitlines()[-1].startswith("toy: ")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["pick", "{run}", "--retention", "0"], "export"),
        (["export", "{run}", "--to", "{folder}/student"], "folder"),
        (["report", "{run}", "--folder", "{folder}/page"], "report"),
        (["doctor"], "findings"),
    ],
)
def test_every_result_is_there_as_json(
    run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], key: str
) -> None:
    given = [word.format(run=run_folder, folder=folder) for word in words]
    assert main(["--json", *given]) == 0
    assert key in json.loads(capsys.readouterr().out)


def test_what_cannot_be_done_is_no_json(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pick", str(run_folder), "--memory-mb", "0.0001", "--json"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("protege: error: memory_mb=0.0001: ")
    assert main(["pick", str(run_folder), "--quiet", "--verbose"]) == 2
    assert "--quiet and --verbose: give one of the two" in capsys.readouterr().err


@pytest.mark.parametrize("name", [command.__name__ for command in COMMANDS])
def test_every_help_text_has_an_example_that_is_understood(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    examples = [line.strip() for line in lines if line.startswith(f"  protege {name}")]
    assert examples
    for example in examples:
        assert main([*example.split()[1:], "--no-such-option"]) == 2
        told = capsys.readouterr().err
        assert "no-such-option" in told or "no study there" in told


def test_the_bare_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert "protege run study.py --trials 40" in bare


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pik"], 'Did you mean "pick"?'),
        (["run", "study.py", "--trails", "3"], "Did you mean --trials?"),
        (["report", "runs/x", "--flder", "y"], "Did you mean --folder?"),
    ],
)
def test_a_mistyped_word_is_told_with_the_right_one(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def seconds_of(*words: str) -> float:
    """The processor time of a command, which a busy machine does not change much."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*PROTEGE, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_printed_at_once() -> None:
    assert min(seconds_of("--help") for _ in range(3)) < 0.8  # 0.25 on an idle machine


def test_the_first_line_of_a_run_comes_before_anything_is_loaded(tmp_path: Path) -> None:
    study = tmp_path / "study.py"
    study.write_text("import time\ntime.sleep(600)\n")
    began = time.monotonic()
    with subprocess.Popen(
        [*PROTEGE, "run", str(study)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        seconds = time.monotonic() - began
        process.kill()
    assert line == f"loading {study} ...\n"
    assert seconds < 5.0  # 0.4 on an idle machine
