"""Write the script and the data with which another trainer trains a student."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from jinja2 import DictLoader, Environment, StrictUndefined

from protege.objectives import Candidate, LogitsKL
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.losses.losses import TOP, HardLabels
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.questions import Questions
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.training import Training
from protege.objectives.quality.rungs import training_of
from protege.search.handover.scripts.outputs_table import label_kind, write_outputs
from protege.search.handover.training import FullTraining
from protege.spaces import BadInput, Unsupported
from protege.spaces.checkpoints.pooling import POOLER
from protege.spaces.files.atomic import atomic, write_text

TrainerName = Literal["gkd", "trainer", "sentence-transformers"]
"""TRL's GKDTrainer, transformers' Trainer, or that of sentence-transformers."""

SCRIPT, DATA = "train.py", "data"
"""The script in its folder, and the folder of the data beside it."""

FUNCTIONS = {
    "LogitsMSE": "mse",
    "ScoreMSE": "score_mse",
    "BinaryKL": "binary_kl",
    "HardLabels": "hard_labels",
}
"""The script's function for each loss; of `LogitsKL` it depends on the outputs."""

METRICS = {"VectorCosine": "cosine", "VectorMSE": "mse"}
"""The distance of sentence-transformers for each loss on vectors."""


@dataclass(frozen=True)
class TrainingScript:
    """A script for another trainer, in place of a training by protege.

    Attributes:
        training: The training that it stands for: student, teacher, data, losses and rates.
        trainer: The trainer.
    """

    training: FullTraining
    trainer: TrainerName

    def write(self) -> Path:
        """Write the script and its data to the training's target, a new folder.

        If it is interrupted, the same call goes on: the teacher's outputs are computed block by
        block, into a cache that is removed at the end.

        Returns:
            The path of the script.

        Raises:
            BadInput: The trainer does not fit the student, or the folder is not empty.
            Unsupported: Students of this kind are only trained by protege.
        """
        target, show = self.training.target, self.training.show
        if self.trainer not in get_args(TrainerName):
            raise BadInput(f"trainer {self.trainer!r}: expected one of {get_args(TrainerName)}")
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise BadInput(f"{target}: not empty; name a new folder, or remove this one first")
        start = self._own.start
        self._check(start)
        show("teacher outputs")
        training = training_of(start)
        parts = self._parts(start, training)
        if target.exists():
            target.rmdir()
        with atomic(target) as scratch:
            (scratch / DATA).mkdir(parents=True)
            about, columns = self._about(training), set[str]()
            for split, (inputs, targets, texts) in parts.items():
                show(f"writing {split}")
                columns = write_outputs(scratch / DATA, split, inputs, targets, texts, about)
            shown = self._script(training, columns)
            write_text(scratch / SCRIPT, shown)
        shutil.rmtree(self._own.checkpoints, ignore_errors=True)  # the cache
        return target / SCRIPT

    @cached_property
    def _own(self) -> FullTraining:
        """The training with losses on outputs alone, which can be cached."""
        given = self.training.distillation
        losses = [one for one in given.losses if one not in given.hidden_losses]
        if len(losses) < len(given.losses):
            self.training.tell(
                "losses on hidden states or attention are left out: they need the teacher's layers"
            )
        if self.trainer == "gkd":
            return replace(
                self.training, distillation=replace(given, losses=tuple(losses), answers="online")
            )
        losses = [
            replace(one, top=one.top or TOP) if isinstance(one, LogitsKL) else one for one in losses
        ]
        return replace(
            self.training, distillation=replace(given, losses=tuple(losses), answers="cached")
        )

    def _check(self, start: Candidate) -> None:
        """Check that the trainer fits the student.

        Raises:
            BadInput: Another trainer does.
            Unsupported: None does.
        """
        task, inputs = start.prepared.data.task, start.prepared.data.selected
        pooling = start.prepared.teacher.pooling
        if not isinstance(inputs, Sequences) or isinstance(inputs, Questions):
            raise Unsupported(
                f"no script trains a student for {start.teacher.task}; use protege train"
            )
        is_decoder = isinstance(task, LanguageTask) and not task.masked
        fits = {
            "gkd": is_decoder,
            "sentence-transformers": isinstance(task, SentenceTask),
            "trainer": not isinstance(task, SentenceTask),
        }
        if not fits[self.trainer]:
            right = " or ".join(f"--for {name}" for name, does in fits.items() if does)
            raise BadInput(
                f"--for {self.trainer}: this student is for {start.teacher.task}; {right}"
            )
        if self.trainer == "gkd" and start.student.kept.vocab is not None:
            raise BadInput(
                "--for gkd: the student has fewer tokens than its teacher, and GKDTrainer compares "
                "distributions over the same tokens; use --for trainer"
            )
        if isinstance(task, SentenceTask) and pooling is not None and pooling.mode == POOLER:
            raise Unsupported(
                "the vectors come from the transformer's own pooler, which sentence-transformers "
                "lacks; use protege train"
            )

    def _parts(self, start: Candidate, training: Training) -> dict[str, Any]:
        """Return inputs, teacher outputs and texts of each part of the data."""
        data = start.prepared.data
        has_texts = isinstance(data.task, SentenceTask)

        def part(inputs: TaskInputs) -> tuple[TaskInputs, Any, Sequence[Any]]:
            texts = [one.content for one in data.examples_of(inputs)] if has_texts else []
            if self.trainer == "gkd":
                return inputs, {}, texts
            return *start.inputs_and_targets(data, inputs, training.task), texts

        return {"train": part(data.learnt), "test": part(data.selected)}

    def _about(self, training: Training) -> dict[str, Any]:
        """Return the description of the outputs in the files' metadata."""
        teacher, task = self.training.teacher, training.task
        about: dict[str, Any] = {
            "teacher": {"hub_id": teacher.hub_id, "fingerprint": teacher.fingerprint},
            "task": task.name,
            "max_tokens": training.settings.max_tokens,
        }
        if isinstance(task, LanguageTask) and self.trainer != "gkd":
            about |= {"temperature": task.temperature, "top": task.top}
        return about

    def _script(self, training: Training, columns: set[str]) -> str:
        """Return the text of the script."""
        own, plan, settings = self._own, self.training.plan, training.settings
        known: dict[str, Any] = {
            "version": version("protege"),
            "student": Path(
                os.path.relpath(own.student.folder.resolve(), own.target.resolve())
            ).as_posix(),
            "epochs": plan.epochs,
            "batch_size": plan.batch_size,
            "learning_rate": float(f"{settings.learning_rate:.3g}"),
            "rate_from": "as given"
            if plan.learning_rate is not None
            else "the study's, scaled by the student's distance from its teacher",
            "warmup": plan.warmup,
            "decay": plan.decay,
            "weight_decay": settings.weight_decay,
            "max_gradient": settings.max_gradient,
            "seed": plan.seed,
            "max_tokens": training.teacher.at_most(settings.max_tokens),
        }
        if self.trainer == "gkd":
            known |= {"teacher": self._teacher_place()}
        elif self.trainer == "sentence-transformers":
            known |= self._of_vectors(training)
        else:
            known |= _of_outputs(training, columns, own.student.manifest["teacher"]["auto_class"])
        name = {"sentence-transformers": "sentence_transformers"}.get(self.trainer, self.trainer)
        return _templates().get_template(f"{name}.jinja").render(known)

    def _teacher_place(self) -> str:
        """Return the teacher's hub id or folder.

        Raises:
            BadInput: It is in memory only.
        """
        teacher = self.training.teacher
        if teacher.hub_id:
            return teacher.hub_id
        if not Path(teacher.source).is_dir():
            raise BadInput("the teacher is in memory only; save it, and load it from its folder")
        return str(Path(teacher.source).resolve())

    def _of_vectors(self, training: Training) -> dict[str, Any]:
        """Return what a script for sentence-transformers needs to know."""
        terms = [type(one).__name__ for one in training.settings.terms(training.task)]
        metrics = [METRICS[name] for name in terms if name in METRICS]
        pooling = training.teacher.pooling
        has_modules = (self.training.student.folder / "modules.json").is_file()
        mode = None if has_modules or pooling is None else pooling.mode
        return {"metric": (metrics or ["cosine"])[0], "pooling": mode}


def _of_outputs(training: Training, columns: set[str], auto_class: str) -> dict[str, Any]:
    """Return what a script for `transformers.Trainer` needs to know."""
    inputs = training.inputs
    assert isinstance(inputs, Sequences)  # `_check` looks
    terms: list[tuple[float, str]] = []
    known: dict[str, Any] = {"temperature": 1.0, "top": 0, "variances": ()}
    for one in training.settings.terms(training.task):
        if isinstance(one, LogitsKL):
            known["temperature"] = one.temperature
            name = "top_kl" if "top_ids" in columns else "kl"
        else:
            name = FUNCTIONS.get(type(one).__name__, "")
        if not name:
            raise Unsupported(f"loss {one}: not one that the script has; use protege train")
        known["variances"] = getattr(one, "variances", ()) or known["variances"] or (1.0,)
        terms.append((one.weight, name))
    task = training.task
    if isinstance(task, LanguageTask):
        known["top"] = min(task.top or TOP, training.teacher.architecture.vocab_size)
    outputs = ["top_ids", "top_log_probs"] if "top_ids" in columns else ["logits"]
    label = "labels" if "positions" in columns else "label"
    is_labelled = any(isinstance(one, HardLabels) for one in training.settings.losses)
    return known | {
        "auto_class": auto_class,
        "columns": columns,
        "targets": [*outputs, *([label] if is_labelled else [])],
        "terms": terms,
        "functions": sorted({name for _, name in terms}),
        "label": label,
        "label_kind": label_kind(inputs),
        "pad": inputs.pad,
    }


def _templates() -> Environment:
    """Return the templates of the scripts."""
    found = files("protege.search.handover.scripts")
    texts = {
        one.name: one.read_text(encoding="utf-8")
        for one in found.iterdir()
        if one.name.endswith(".jinja")
    }
    environment = Environment(
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    quote: Callable[[Any], str] = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
    environment.filters |= {"quoted": quote, "listed": lambda values: quote(list(values))}
    return environment
