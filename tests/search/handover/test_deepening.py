"""A full training that starts deeper, with the student's own weights, and drops the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from protege.objectives import Distillation, HiddenMSE, Progressive, Texts
from protege.search import Front
from protege.search.handover.deepening import deepened
from protege.search.handover.exported import ExportedStudent, loaded_student
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.starting import full_training
from protege.spaces import BadInput, Magnitude, Teacher
from tests.search.toys import toy
from tests.tiny import ZOO, answer, save, texts

KINDS = ["bert-sentences-dense", "bert-masked", "llama-causal-grouped", "t5-text2text-generation"]


@pytest.mark.parametrize("name", KINDS)
def test_without_its_further_layers_the_deep_student_is_the_student(
    name: str, tmp_path: Path
) -> None:
    teacher = ZOO[name].teacher()
    ratios: dict[str, Any] = {"layers": 0.5, "intermediate": 0.5, "width_policy": Magnitude()}
    if teacher.architecture.num_decoder_layers:
        ratios["decoder_layers"] = 0.5
    if not name.startswith("llama"):  # its head size is declared
        ratios["hidden"] = 0.7
    sizes = teacher.architecture.scaled(**ratios)
    cut = teacher.student(sizes)
    with torch.no_grad():  # as if it had been trained
        for parameter in cut.module.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    folder = cut.save(tmp_path)
    kept = ExportedStudent(folder, cut.manifest()).manifest["kept"]
    student = loaded_student(folder, teacher, kept)
    deep = deepened(teacher, student, Progressive())
    assert deep is not None
    for stack, layers in deep.going.items():
        assert [*layers] == sorted(layers, reverse=True)
        assert len(deep.student.kept.layers(stack)) == teacher.layout.depths[stack]
    assert not torch.equal(answer(deep.student), answer(student))
    ended = deep.finish()
    assert torch.equal(answer(ended), answer(student))
    assert ended.manifest() == student.manifest()
    deep.advance(1, 1)
    assert torch.equal(answer(deep.student), answer(student))


def test_it_starts_as_deep_as_asked_with_the_lower_layers() -> None:
    teacher = ZOO["bert-masked"].teacher()
    student = teacher.student(teacher.architecture.scaled(layers=0.25))
    deep = deepened(teacher, student, Progressive(start=0.75))
    assert deep is not None
    own = student.kept.layers("encoder")
    lacking = [number for number in range(4) if number not in own]
    assert deep.going == {"encoder": (lacking[1], lacking[0])}
    assert deepened(teacher, student, Progressive(start=0.25)) is None


def test_a_training_drops_layers_and_ends_with_the_students_own(
    front: Front, folder: Path, teacher: Teacher
) -> None:
    student = front.export(front.members[0], folder / "student")
    told: list[str] = []
    plan = TrainingPlan(
        epochs=3,
        batch_size=8,
        held_out=16,
        progressive=Progressive(until=0.5),
        arguments={"logging_steps": 1},
    )
    training = full_training(
        ExportedStudent.read(student),
        Texts.of(texts(100)),
        folder / "out",
        plan=plan,
        teacher=teacher,
        tell=told.append,
    )
    out = ExportedStudent.read(training.run())
    before = ExportedStudent.read(student)
    assert out.manifest["kept"] == before.manifest["kept"]
    assert "starts with 2 more layers" in told[0]
    record = out.manifest["trained"]
    assert record["best_step"] >= record["steps"] / 2
    assert record["after"]["retention"][0] > record["before"]["retention"][0]
    assert sum("of the training" in line for line in told) == 6  # from half on


def test_what_cannot_start_deeper_is_one_clear_line(
    front: Front, folder: Path, tmp_path: Path, teacher: Teacher
) -> None:
    plan = TrainingPlan(steps=2, progressive=Progressive())
    student = ExportedStudent.read(front.export(front.members[0], folder / "student"))

    def refused(read: ExportedStudent, message: str) -> None:
        with pytest.raises(BadInput, match=message):
            full_training(read, Texts.of(texts()), folder / "out", plan=plan, teacher=teacher).run()

    asked = {**student.manifest, "answers_from": student.manifest["teacher"]}
    refused(ExportedStudent(student.folder, asked), "was cut from another model")
    turned = {**student.manifest["kept"], "hidden": "rotated"}
    refused(
        ExportedStudent(student.folder, {**student.manifest, "kept": turned}),
        "residual stream is rotated",
    )
    search = toy(
        tmp_path,
        teacher=teacher,
        distillation=Distillation(
            Texts.of(texts()), steps=2, batch_size=8, selection=16, losses=(HiddenMSE(),)
        ),
    )
    with pytest.raises(BadInput, match="matched layers are dropped"):
        search.run(trials=4).pick().train(plan=plan)


@pytest.mark.slow
def test_killed_in_the_midst_it_resumes_to_the_same_weights(
    front: Front, folder: Path, teacher: Teacher
) -> None:
    student = front.export(front.members[0], folder / "student")
    save(teacher, folder / "teacher")
    (folder / "corpus.txt").write_text("\n".join(texts(100)), encoding="utf-8")
    words = ["train", student, "--teacher", folder / "teacher", "--data", folder / "corpus.txt"]
    words += ["--batch-size", 8, "--epochs", 20, "--progressive-until", 0.9]
    line = [sys.executable, "-m", "protege.search.cli.main", *map(str, words)]
    own = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([*line, "--to", folder / "whole"], env=own, check=True, capture_output=True)
    part = [*line, "--to", str(folder / "part")]
    process = subprocess.Popen(part, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = folder / "part-checkpoints"
    while len(list(checkpoints.glob("checkpoint-*/elapsed.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([*part, "--resume"], env=own, check=True, capture_output=True)
    whole, resumed = (load_file(folder / one / "model.safetensors") for one in ("whole", "part"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
