"""A student is trained after the search: to the end, in parts, in several processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from protege.objectives import Distillation, HiddenMSE, Score, Texts
from protege.search import Front
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.starting import full_training
from protege.spaces import BadInput, Mismatch, Teacher
from tests.search.toys import toy
from tests.tiny import CASES, save, texts

PLAN = TrainingPlan(epochs=3, batch_size=8, held_out=16, arguments={"logging_steps": 1})


def trained(folder: Path) -> dict[str, Any]:
    """The record of the training in a student's folder."""
    manifest = json.loads((folder / "protege.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = manifest["trained"]
    return found


@pytest.fixture
def student(front: Front, folder: Path) -> Path:
    """The smallest student of the front, exported."""
    return front.export(front.members[0], folder / "student")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A file of a hundred texts."""
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(texts(100)), encoding="utf-8")
    return path


def command(student: Path, teacher: Path, corpus: Path, *words: object) -> list[str]:
    own = ["train", student, "--teacher", teacher, "--data", corpus, "--batch-size", "8"]
    return [*map(str, [*own, "--set", "logging_steps=1", *words])]


def run(*words: str, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *launcher, "-m", "protege.search.cli.main", *words]
    own = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, env=own, check=False)


def test_training_lowers_the_loss_and_never_the_quality(
    front: Front, student: Path, teacher: Teacher, folder: Path
) -> None:
    read = ExportedStudent.read(student)
    out = full_training(
        read, Texts.of(texts(100)), folder / "out", plan=PLAN, teacher=teacher
    ).run()
    record = trained(out)
    losses = [loss for _, loss in record["losses"]]
    assert record["steps"] == len(losses) == 33  # 84 texts in batches of 8, three times
    assert sum(losses[-5:]) < sum(losses[:5])
    assert record["after"]["retention"][0] > record["before"]["retention"][0]
    assert not list(folder.glob("out-*"))  # checkpoints and cache are gone
    own = SentenceTransformer(str(out), device="cpu").encode(texts(3))
    assert own.shape == SentenceTransformer(str(student), device="cpu").encode(texts(3)).shape
    before, after = (load_file(place / "model.safetensors") for place in (student, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert front.members[0].label in (out / "README.md").read_text(encoding="utf-8")


def test_a_training_that_only_harms_publishes_the_student_as_it_was(
    student: Path, teacher: Teacher, folder: Path
) -> None:
    plan = TrainingPlan(steps=4, batch_size=8, learning_rate=1.0, warmup=0.0)
    told: list[str] = []
    out = full_training(
        ExportedStudent.read(student),
        Texts.of(texts(100)),
        folder / "out",
        plan=plan,
        teacher=teacher,
        tell=told.append,
    ).run()
    before, after = (load_file(place / "model.safetensors") for place in (student, out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trained(out)["best_step"] == 0
    assert "could not improve" in told[-1]


def test_embeddings_move_only_where_texts_read_them(
    student: Path, teacher: Teacher, folder: Path
) -> None:
    some = [f"w{one} w{other}" for one in range(8) for other in range(8)]
    plan = TrainingPlan(epochs=2, batch_size=4, held_out=8, learning_rate=1e-3)
    out = full_training(
        ExportedStudent.read(student), Texts.of(some), folder / "out", plan=plan, teacher=teacher
    ).run()
    name = "embeddings.word_embeddings.weight"
    before, after = (load_file(place / "model.safetensors")[name] for place in (student, out))
    moved = (before != after).any(dim=1).nonzero().squeeze(1).tolist()
    ids = teacher.tokenizer(some)["input_ids"]
    assert moved
    assert {*moved} <= {token for text in ids for token in text}


def test_texts_to_evaluate_on_are_not_trained_on(
    student: Path, teacher: Teacher, folder: Path
) -> None:
    every = texts(100)
    training = full_training(
        ExportedStudent.read(student),
        Texts.of(every),
        folder / "out",
        plan=PLAN,
        teacher=teacher,
        evaluation=Texts.of(every[:40]),
    )
    assert not {one.identity for one in training.prepared.settings.data} & {
        one.identity for one in Texts.of(every[:40])
    }
    assert trained(training.run())["sequences"] == 59  # one is held out in any case


def test_the_studys_own_losses_and_scores_go_on(tmp_path: Path, teacher: Teacher) -> None:
    asked = []

    def size(student: Any) -> float:
        asked.append(student)
        return float(student.encode(["a text"]).norm())

    search = toy(
        tmp_path,
        teacher=teacher,
        objectives=[*toy(tmp_path, teacher=teacher).objectives, Score("norm", size)],
        distillation=Distillation(
            Texts.of(texts()), steps=2, batch_size=8, selection=16, losses=(HiddenMSE(weight=2),)
        ),
    )
    front = search.run(trials=4)
    asked.clear()
    out = front.pick().train(plan=PLAN)
    assert out.is_relative_to(tmp_path / "trained")
    assert trained(out)["after"].keys() == {"retention", "norm"}
    assert len(asked) == 12  # before, ten times, and after
    settings = ExportedStudent.read(out).manifest["distillation"]
    assert settings["losses"] == [{"kind": "HiddenMSE", "weight": 2}]
    again = full_training(
        ExportedStudent.read(out), Texts.of(texts()), tmp_path / "o", teacher=teacher
    )
    assert again.distillation.losses == (HiddenMSE(weight=2),)


def test_activations_computed_again_change_nothing(
    student: Path, teacher: Teacher, folder: Path
) -> None:
    data, losses = Texts.of(texts(60)), []
    for again in (False, True):
        plan = TrainingPlan(
            steps=4, batch_size=8, gradient_checkpointing=again, arguments={"logging_steps": 1}
        )
        out = full_training(
            ExportedStudent.read(student), data, folder / f"{again}", plan=plan, teacher=teacher
        ).run()
        losses.append(trained(out)["losses"])
    assert losses[0] == losses[1]


def test_patience_ends_a_training_that_gains_nothing(
    student: Path, teacher: Teacher, folder: Path
) -> None:
    plan = TrainingPlan(steps=40, batch_size=8, patience=1, learning_rate=0.5, warmup=0.0)
    out = full_training(
        ExportedStudent.read(student), Texts.of(texts(60)), folder / "o", plan=plan, teacher=teacher
    ).run()
    assert trained(out)["steps"] < 40


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(
    student: Path, teacher_folder: Path, corpus: Path, folder: Path
) -> None:
    for count, name in ((1, "one"), (2, "two")):
        launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(count))
        words = command(student, teacher_folder, corpus, "--steps", 20, "--to", folder / name)
        found = run(*words, "--epochs", "5", launcher=launcher)
        assert found.returncode == 0, found.stderr
        assert found.stdout.count("Student: ") == 1
    one, two = (trained(folder / name)["losses"] for name in ("one", "two"))
    assert len(one) == len(two) == 20
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-4)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(
    student: Path, teacher_folder: Path, corpus: Path, folder: Path
) -> None:
    words = command(student, teacher_folder, corpus, "--epochs", 20)
    assert run(*words, "--to", str(folder / "whole")).returncode == 0
    line = [sys.executable, "-m", "protege.search.cli.main", *words, "--to", str(folder / "part")]
    own = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(line, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = folder / "part-checkpoints"
    while len(list(checkpoints.glob("checkpoint-*/elapsed.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    refused = run(*words, "--to", str(folder / "part"))
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    # as if it had been killed while it wrote
    newest = max(checkpoints.glob("checkpoint-*"), key=lambda one: int(one.name.split("-")[1]))
    shutil.copytree(newest, checkpoints / "checkpoint-9999")
    (checkpoints / "checkpoint-9999" / "elapsed.json").unlink()
    assert run(*words, "--to", str(folder / "part"), "--resume").returncode == 0
    whole, part = (load_file(folder / name / "model.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_what_cannot_be_trained_is_one_clear_line(
    student: Path, teacher: Teacher, teacher_folder: Path, folder: Path, tmp_path: Path
) -> None:
    read, data = ExportedStudent.read(student), Texts.of(texts())
    with pytest.raises(BadInput, match=r"no protege\.json there"):
        ExportedStudent.read(teacher_folder)
    with pytest.raises(BadInput, match="--teacher FOLDER"):
        full_training(read, data, folder / "out")
    with pytest.raises(BadInput, match="no data to train on"):
        full_training(read, None, folder / "out", teacher=teacher)
    other = save(CASES["bert-sentences"].teacher(1), tmp_path / "other")
    with pytest.raises(Mismatch, match="not the teacher of"):
        full_training(read, data, folder / "out", teacher=other)
    with pytest.raises(BadInput, match="not empty"):
        full_training(read, data, student, teacher=teacher).run()
    with pytest.raises(BadInput, match="no checkpoint to resume from"):
        full_training(read, data, folder / "out", teacher=teacher).run(resume=True)
    wrong = TrainingPlan(arguments={"no_such_argument": 1})
    with pytest.raises(BadInput, match="no_such_argument"):
        full_training(read, data, folder / "out", teacher=teacher, plan=wrong).run()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs=0: expected a number above 0"),
        ({"steps": 0}, "steps=0: expected a whole number of at least 1"),
        ({"warmup": 2}, "warmup=2: expected a share"),
        ({"precision": "bf16"}, "write 'bfloat16'"),
        ({"arguments": {"max_steps": 3}}, "arguments max_steps: set by the fields"),
    ],
)
def test_a_plan_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        TrainingPlan(**wrong)


def test_a_tokenizer_that_differs_is_refused(student: Path, teacher: Teacher, folder: Path) -> None:
    path = student / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    word = max(vocabulary, key=vocabulary.get)
    vocabulary[f"{word}-other"] = vocabulary.pop(word)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(Mismatch, match=f"differs .* in 2 tokens, such as '{word}'"):
        full_training(
            ExportedStudent.read(student), Texts.of(texts()), folder / "o", teacher=teacher
        ).run()
