"""The students of a front are measured again from their exported files."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.analysis.confirmation import Confirmation, confirmations, overtaken
from protege.search.cli.main import main
from protege.spaces import BadInput, Teacher
from tests.search.toys import OBJECTIVES, SPACE, toy, worth


def test_every_student_of_the_front_is_measured_again_and_the_figures_kept(
    folder: Path, teacher: Teacher
) -> None:
    front = toy(folder, teacher=teacher).run(trials=4)
    told: list[str] = []
    found = front.confirm(tell=told.append)
    assert found.keys() == {trial.number for trial in front.students}
    for trial in front.students:
        values = found[trial.number].values
        assert values["retention"] == pytest.approx(trial.measurements["retention"].value, rel=1e-6)
        assert values["memory_mb"] == trial.measurements["memory_mb"].value
        assert 0 < values["unseen_retention"] < 1
    assert len(told) == len(found)
    again = Front.read(folder)
    assert again.confirmed == found
    table = again.table.set_index("trial")
    for number, one in found.items():
        assert table.loc[number, "retention_confirmed"] == one.values["unseen_retention"]
    shutil.rmtree(folder / "students")  # what is confirmed is not measured twice
    assert front.confirm() == found
    assert not (folder / "students").exists()


def test_figures_of_other_weights_do_not_count(tmp_path: Path) -> None:
    trial = replace(worth(3, SPACE.representatives[0]), weights="these")
    one = Confirmation(3, "these", {"quality": 0.5})
    one.store(tmp_path)
    assert confirmations(tmp_path, [trial]) == {3: one}
    assert confirmations(tmp_path, [replace(trial, weights="others")]) == {}


def test_a_student_that_falls_behind_when_confirmed_is_told() -> None:
    trials = [replace(worth(n, SPACE.representatives[0]), weights="w") for n in (1, 2, 3)]
    found = {
        1: Confirmation(1, "w", {"size": 5.0, "quality": 0.9, "unseen_quality": 0.5}),
        2: Confirmation(2, "w", {"size": 4.0, "quality": 0.6}),
        3: Confirmation(3, "w", {"size": 9.0, "quality": 0.7}),
    }
    assert overtaken(OBJECTIVES, trials, found) == {1: [2]}


def test_without_its_declaration_a_study_cannot_be_confirmed(front: Front) -> None:
    with pytest.raises(BadInput, match="give the study file"):
        front.confirm()


def test_the_command_finds_the_study_file_again(
    tmp_path: Path, teacher_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (tmp_path / "study.py").write_text(
        "from protege.objectives import Distillation, Memory, Retention, Texts\n"
        "from protege.search import Search\n"
        "from protege.spaces import Choice, Range, SearchSpace, Teacher\n"
        f"texts = [f'a text of number {{n}}' for n in range(60)]\n"
        "search = Search(\n"
        f"    name='asked', teacher=Teacher.load({str(teacher_folder)!r}),\n"
        "    space=SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 1.0)),\n"
        "    objectives=[Memory(), Retention()],\n"
        "    distillation=Distillation(Texts.of(texts), steps=2, batch_size=8, selection=16),\n"
        f"    folder={str(run)!r},\n"
        ")\n",
        encoding="utf-8",
    )
    assert main(["run", str(tmp_path / "study.py"), "--trials", "3"]) == 0
    assert main(["confirm", str(run)]) == 0
    assert "confirmed" in capsys.readouterr().out
    brief = ["--steps", "2", "--batch-size", "8"]
    assert main(["train", str(run), *brief]) == 0  # the knee, on the study's own data
    assert "Student: " in capsys.readouterr().out
    assert len(list((run / "trained").glob("*/model.safetensors"))) == 1
    assert main(["train", str(run), "--latency-ms", "8"]) == 2
    assert "unknown objective 'latency_ms'" in capsys.readouterr().err
    (tmp_path / "study.py").unlink()
    assert main(["confirm", str(run)]) == 2
    assert "give the study file" in capsys.readouterr().err
