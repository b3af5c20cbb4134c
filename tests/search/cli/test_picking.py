from collections.abc import Sequence
from pathlib import Path

import pytest

from protege.search.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that cannot be done prints."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    return output.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--memory", "8"], "unknown objective 'memory'; did you mean memory_mb?"),
        (["--retension=0.9"], "unknown objective 'retension'; did you mean retention?"),
        (["--memory-mb", "much"], "budget memory-mb=much: expected an objective and a number"),
        (["--budget", "memory_mb="], "budget memory_mb=: expected an objective and a number"),
        (["--budget", "memory_mb"], "budget memory_mb=: expected an objective and a number"),
        (["--memory-mb"], 'Command "pick" parameter --memory-mb requires an argument; see protege'),
        (["8"], "Unused Tokens: ['8']; see protege pick --help"),
        (["--memory-mb", "0.0001"], "no student on the front is within that; the least memory_mb"),
        (["--memory-mb", "nan"], "memory_mb=nan: expected a number"),
    ],
)
def test_what_cannot_be_picked_is_one_line_and_code_2(
    run_folder: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], told: str
) -> None:
    assert told in refused(capsys, "pick", run_folder, *words)


def test_a_mistyped_option_of_export_is_told_with_the_right_one(
    run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, "export", run_folder, "--too", folder / "x")
    assert "unknown objective 'too'; did you mean --to?" in told
    both = refused(capsys, "export", run_folder, "--trial", 0, "--memory-mb", 1)
    assert "--trial 0 and memory_mb=1: name a trial or give budgets, not both" in both
    assert list(folder.iterdir()) == []


def test_export_writes_the_teacher_only_if_it_is_named(
    run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run_folder), "--to", str(folder / "best")]) == 0
    first = capsys.readouterr().out
    assert "the knee of the front, as no budget was given" in first
    assert "this is the" not in first
    assert main(["export", str(run_folder), "--trial", "0", "--to", str(folder / "named")]) == 0
    assert "this is the teacher" in capsys.readouterr().out
    assert (folder / "named" / "model.safetensors").exists()


def test_pick_prints_the_line_that_exports_and_no_password(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pick", "--retention", "0", str(run_folder)]) == 0
    card = capsys.readouterr().out
    assert f"protege export {run_folder} --trial " in card
    assert main(["pick", f"sqlite:///{run_folder}/study.db"]) == 0
    assert "protege export RUN --trial " in capsys.readouterr().out
