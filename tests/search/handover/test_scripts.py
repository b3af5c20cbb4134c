"""Scripts for other trainers start with the released libraries, and the loss falls."""

import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from protege.objectives import HiddenMSE, Texts
from protege.search import Front
from protege.search.cli.main import main
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.scripts.training_script import TrainingScript
from protege.search.handover.starting import full_training
from protege.spaces import BadInput, Teacher, Unsupported
from tests.search.handover.scripts_of import HANDED, Handed, environment, own_loss, started
from tests.search.toys import forwards
from tests.tiny import ZOO, save, texts

FIRST = HANDED[:3]
"""One for each trainer."""


@pytest.mark.slow
@pytest.mark.parametrize("handed", FIRST, ids=lambda one: one.trainer)
def test_a_script_starts_and_the_loss_falls(tmp_path: Path, handed: Handed) -> None:
    if handed.trainer == "gkd" and find_spec("trl") is None:
        pytest.skip("trl is not installed")
    script = handed.write(tmp_path)
    assert {one.name for one in script.parent.iterdir()} == {"train.py", "data"}
    student = ExportedStudent.read(tmp_path / "student")
    ((before, after),) = started(script)
    assert before == pytest.approx(own_loss(handed, student), rel=1e-3)
    assert after < 0.95 * before
    trained = ExportedStudent.read(script.parent / "trained")
    assert trained.manifest == student.manifest
    one, two = (
        Teacher.load(place, task=student.teacher["task"])
        for place in (student.folder, trained.folder)
    )
    assert one.architecture == two.architecture
    assert one.fingerprint != two.fingerprint


@pytest.mark.slow
def test_every_loss_and_head_is_trained_as_protege_does(tmp_path: Path) -> None:
    others = HANDED[3:]
    scripts = []
    for number, handed in enumerate(others):
        (tmp_path / f"{number}").mkdir()
        scripts.append(handed.write(tmp_path / f"{number}"))
    found = started(*scripts)
    assert len(found) == len(others)
    for number, (handed, (before, after)) in enumerate(zip(others, found, strict=True)):
        assert after < 0.95 * before, handed
        if handed.kind != "bert-sentences":  # sentence-transformers divides by the dimension
            student = ExportedStudent.read(tmp_path / f"{number}" / "student")
            assert before == pytest.approx(own_loss(handed, student), rel=1e-3), handed


@pytest.mark.slow
def test_a_killed_script_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    script = HANDED[1].write(tmp_path)
    other = Path(shutil.copytree(script.parent, tmp_path / "other")) / script.name
    started(script)
    process = subprocess.Popen(
        [sys.executable, str(other)],
        env=environment(other.parent),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(list(other.parent.glob("checkpoints/checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    started(other)
    weights = [load_file(one.parent / "trained" / "model.safetensors") for one in (script, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("number", range(len(HANDED)))
def test_scripts_are_tidy(tmp_path: Path, number: int) -> None:
    script = HANDED[number].write(tmp_path)
    ruff = [sys.executable, "-m", "ruff"]
    rules = ["--isolated", "--line-length", "100", str(script)]
    for words in (
        ["check", "--select", "E,W,F,I,UP,B,N,D,SIM,C4", "--ignore", "D203,D213,N812"],
        ["format", "--check"],
    ):
        done = subprocess.run([*ruff, *words, *rules], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "import protege" not in script.read_text(encoding="utf-8")
    assert "from protege" not in script.read_text(encoding="utf-8")


def test_an_interrupted_export_asks_the_teacher_nothing_twice(
    front: Front, folder: Path, teacher: Teacher
) -> None:
    student = ExportedStudent.read(front.export(front.members[0], folder / "student"))

    def interrupted(what: str) -> None:
        if what == "writing test":
            raise KeyboardInterrupt

    def training(show: Any) -> Any:
        return full_training(
            student, Texts.of(texts(100)), folder / "out", teacher=teacher, show=show
        )

    with pytest.raises(KeyboardInterrupt):
        TrainingScript(training(interrupted), "sentence-transformers").write()
    assert {one.name for one in folder.iterdir()} == {"student", "out-checkpoints"}
    with forwards() as calls:
        script = TrainingScript(training(lambda _: None), "sentence-transformers").write()
    own = [one for one in calls if one is not teacher.model]
    assert own  # the student's distance from its teacher
    assert len(own) == len(calls)
    assert {one.name for one in folder.iterdir()} == {"student", "out"}
    assert script == folder / "out" / "train.py"


def test_the_command_writes_student_and_script_and_names_the_next_one(
    run_folder: Path, teacher_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "corpus.txt").write_text("\n".join(texts(60)), encoding="utf-8")
    own = ["--for", "sentence-transformers", "--data", str(folder / "corpus.txt")]
    own += ["--teacher", str(teacher_folder)]
    student = folder / "student"
    assert main(["export", str(run_folder), "--to", str(student), *own]) == 0
    script = folder / "student-sentence-transformers" / "train.py"
    assert f"To train the student: python {script}" in capsys.readouterr().out
    assert "EPOCHS = 1.0\nBATCH_SIZE = 32" in script.read_text(encoding="utf-8")
    assert main(["export", str(student), *own]) == 2
    assert "student-sentence-transformers: not empty" in capsys.readouterr().err
    shutil.rmtree(script.parent)
    assert main(["export", str(student), *own, "--epochs", "3", "--learning-rate", "0.002"]) == 0
    text = script.read_text(encoding="utf-8")
    assert "EPOCHS = 3.0" in text
    assert "LEARNING_RATE = 0.002  # as given" in text
    assert main(["export", str(student), *own, "--trial", "1"]) == 2
    assert "a student's folder; budgets and --trial are for a run" in capsys.readouterr().err


def test_what_cannot_be_handed_over_is_one_clear_line(tmp_path: Path) -> None:
    def refused(kind: str, trainer: Any, message: str, **ratios: Any) -> None:
        place = tmp_path / f"{kind}-{trainer}-{len(ratios)}"
        place.mkdir()
        with pytest.raises(BadInput, match=message):
            Handed(kind, trainer, ratios=ratios).write(place)

    refused("bert-texts", "gkd", "this student is for text-classification; --for trainer")
    refused("bert-sentences", "trainer", "--for sentence-transformers")
    refused("llama-causal-tied", "sentence-transformers", "--for gkd or --for trainer")
    refused("llama-causal-tied", "axolotl", "trainer 'axolotl': expected one of")
    refused("llama-causal-grouped", "gkd", "fewer tokens than its teacher", vocab=0.6)


def test_losses_on_hidden_states_are_left_out_and_told(tmp_path: Path) -> None:
    handed, told = Handed("bert-sentences", "sentence-transformers", [HiddenMSE()]), list[str]()
    training = handed.training(handed.student(tmp_path), tell=told.append)
    TrainingScript(training, handed.trainer).write()
    assert told == [
        "losses on hidden states or attention are left out: they need the teacher's layers"
    ]


def test_other_inputs_than_texts_are_trained_by_protege_alone(tmp_path: Path) -> None:
    teacher = ZOO["bert-questions"].teacher()
    save(teacher, tmp_path / "teacher")
    student = teacher.student(teacher.architecture.scaled(layers=0.5))
    known = {"fingerprint": teacher.fingerprint, "task": teacher.task, "hub_id": None}
    student.save(tmp_path / "student", teacher=known)
    data = Texts.of([(one, one) for one in texts(60)])
    training = full_training(
        ExportedStudent.read(tmp_path / "student"),
        data,
        tmp_path / "out",
        plan=TrainingPlan(held_out=8),
        teacher=teacher,
    )
    with pytest.raises(Unsupported, match="use protege train"):
        TrainingScript(training, "trainer").write()
