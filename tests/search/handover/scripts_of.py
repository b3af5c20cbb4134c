"""Students with their records, and the scripts by which other trainers train them."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from protege.objectives import (
    BinaryKL,
    Distillation,
    HardLabels,
    LogitsKL,
    Texts,
    VectorMSE,
)
from protege.objectives.distillation.teacher_outputs import CachedOutputs
from protege.objectives.quality.rungs import training_of
from protege.search.handover.checkpoint import published_settings
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.scripts.training_script import TrainerName, TrainingScript
from protege.search.handover.starting import full_training
from protege.search.handover.training import FullTraining
from protege.search.session.identity import document
from protege.spaces import Magnitude, Task, Teacher
from tests.tiny import CASES, Case, save, texts

OWN = {
    "several": Case("bert", Task.TEXTS, {"problem_type": "multi_label_classification"}),
    "scores": Case("bert", Task.TEXTS, {"num_labels": 1, "problem_type": "regression"}),
}
"""Heads that predict several classes, and scores."""


@dataclass(frozen=True)
class Handed:
    """A kind of student, and the trainer that it is handed to."""

    kind: str
    trainer: TrainerName
    losses: Sequence[Any] = ()
    ratios: dict[str, Any] = field(default_factory=dict)

    def student(self, folder: Path) -> ExportedStudent:
        """Write a student and its record as `protege export` does, and its teacher beside it."""
        teacher = (CASES | OWN)[self.kind].teacher()
        save(teacher, folder / "teacher")
        teacher = Teacher.load(folder / "teacher", task=teacher.task)
        sizes: dict[str, Any] = {"layers": 0.5, "width_policy": Magnitude(), **self.ratios}
        student = teacher.student(teacher.architecture.scaled(**sizes))
        settings = Distillation(
            Texts.of(texts()),
            losses=tuple(self.losses),
            max_tokens=16,
            learning_rate=1e-2,
            answers="online" if self.trainer == "gkd" else "cached",
        )
        known = {"fingerprint": teacher.fingerprint, "task": teacher.task, "hub_id": None}
        known |= {"auto_class": teacher.task.auto_class}
        about = {"teacher": known, "distillation": published_settings(document(settings))}
        student.save(folder / "student", **about)
        return ExportedStudent.read(folder / "student")

    @property
    def data(self) -> Texts:
        """Texts, with a label each for classifiers."""
        labels: dict[str, list[Any]] = {
            "bert-texts": [0, 1, 2],
            "several": [("LABEL_0",), ("LABEL_1", "LABEL_2"), ()],
            "scores": [0.5, -0.5, 0.0],
        }
        some = labels.get(self.kind)
        return Texts.of(texts(200), some and [some[number % 3] for number in range(200)])

    def training(self, student: ExportedStudent, **options: Any) -> FullTraining:
        """The training that a script stands for."""
        given: dict[str, Any] = {
            "plan": TrainingPlan(epochs=4, batch_size=8, held_out=16),
            "teacher": student.folder.with_name("teacher"),
        }
        target = student.folder.with_name(f"student-{self.trainer}")
        return full_training(student, self.data, target, **given | options)

    def write(self, folder: Path) -> Path:
        """Write student and script."""
        return TrainingScript(self.training(self.student(folder)), self.trainer).write()


HANDED = [
    Handed("llama-causal-grouped", "gkd", [LogitsKL(top=None)]),
    Handed("llama-causal-tied", "trainer", [LogitsKL(top=8), HardLabels(0.5)]),
    Handed("bert-sentences-dense", "sentence-transformers"),
    Handed("llama-causal-grouped", "trainer", ratios={"vocab": 0.6}),
    Handed("bert-masked", "trainer", [LogitsKL(temperature=2.0)]),
    Handed("bert-texts", "trainer"),
    Handed("bert-texts", "trainer", [LogitsKL(temperature=2.0, weight=2), HardLabels()]),
    Handed("bert-tokens", "trainer", ratios={"vocab": 0.6}),
    Handed("several", "trainer", [BinaryKL(), HardLabels()]),
    Handed("scores", "trainer", [HardLabels()]),
    Handed("scores", "trainer"),
    Handed("bert-sentences", "sentence-transformers", [VectorMSE()], {"hidden": 0.7}),
    Handed("llama", "sentence-transformers"),
]
"""One of each trainer, then further ones."""


def own_loss(handed: Handed, student: ExportedStudent) -> float:
    """The loss of the untrained student on the held-out part, as protege computes it."""
    start = handed.training(student).start
    training, data = training_of(start), start.prepared.data
    inputs = data.selected
    if handed.trainer != "gkd":
        inputs, targets = start.inputs_and_targets(data, inputs, training.task)
        training = replace(training, answers=CachedOutputs.of(inputs, targets))
    training = replace(training, inputs=inputs)
    total, module = 0.0, start.student.module.eval()
    for numbers in torch.arange(len(inputs)).split(8):
        batch = inputs.batch(numbers.tolist())
        with torch.no_grad():
            answer = training.task.answer(module, batch)
            total += len(numbers) * float(training.loss(answer, training.targets(batch), batch))
    return total / len(inputs)


def started(*scripts: Path) -> list[tuple[float, float]]:
    """Start scripts in one process; the held-out loss of each before and after training."""
    line = [sys.executable, str(scripts[0])]  # as it is told to be started
    if len(scripts) > 1:
        code = "import runpy, sys; [runpy.run_path(one, None, '__main__') for one in sys.argv[1:]]"
        line = [sys.executable, "-c", code, *map(str, scripts)]
    done = subprocess.run(
        line, env=environment(scripts[0].parent), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = re.findall(r"held-out loss (\S+) before training, (\S+) after", done.stdout)
    return [(float(before), float(after)) for before, after in found]


def environment(folder: Path) -> dict[str, str]:
    """The variables of a process with a cache of its own, without a GPU and without the hub."""
    own = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return os.environ | own | {"HF_HOME": str(folder / "hub"), "TRL_EXPERIMENTAL_SILENCE": "1"}
