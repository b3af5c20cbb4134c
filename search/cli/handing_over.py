"""The commands ``confirm`` and ``train``."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from protege.objectives.machine.precision import TrainingPrecision
from protege.search.cli.arguments import budgets_of, declared_front
from protege.search.cli.whole import Count, Whole
from protege.search.handover.plan import TrainingPlan
from protege.search.progress import say, watching
from protege.search.records.plain import printable, quoted
from protege.spaces.errors import BadInput
from protege.spaces.files.manifest import MANIFEST


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """The data to train and to evaluate on.

    Attributes:
        data: File of texts (.txt, .jsonl, .json, .csv, .tsv, .parquet), or folder of images or
            recordings (default: the study's own data, if RUN is a study file).
        text: Column of the texts.
        label: Column of the labels.
        pair: Column of the second text of each pair.
        eval_data: Data to evaluate on (default: a part of the data is held out).
    """

    data: Path | None = None
    text: str = "text"
    label: str | None = None
    pair: str | None = None
    eval_data: Path | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingOptions:
    """How long and how the student is trained.

    Attributes:
        epochs: Passes over the data.
        steps: Maximum number of optimiser steps.
        minutes: Maximum number of minutes.
        batch_size: Sequences per step, over all processes.
        learning_rate: Peak learning rate (default: the study's, scaled by the student's distance
            from its teacher).
        patience: Number of evaluations without improvement after which training ends.
        progressive_until: Start with the teacher's layers that the student lacks, and drop the last
            of them after this fraction of the training.
        precision: Precision of matrix products.
        gradient_checkpointing: Compute activations again in the backward pass: less memory, a
            third more time.
        seed: Seed of the data order.
        push_to_hub: Repository on the Hugging Face hub to upload the student to.
        set: Another field of transformers.TrainingArguments, as NAME=VALUE, such as
            report_to=tensorboard; may be repeated.
    """

    epochs: float = 1.0
    steps: Count | None = None
    minutes: float | None = None
    batch_size: Count = 32
    learning_rate: float | None = None
    patience: Count | None = None
    progressive_until: float | None = None
    precision: TrainingPrecision = "auto"
    gradient_checkpointing: bool = False
    seed: Whole = 0
    push_to_hub: str = ""
    set: tuple[str, ...] = ()

    def plan(self) -> TrainingPlan:
        """Return the plan that the options describe."""
        progressive = None
        if self.progressive_until is not None:
            from protege.objectives import Progressive

            progressive = Progressive(until=self.progressive_until)
        return TrainingPlan(
            epochs=self.epochs,
            steps=self.steps,
            minutes=self.minutes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            patience=self.patience,
            progressive=progressive,
            precision=self.precision,
            gradient_checkpointing=self.gradient_checkpointing,
            seed=self.seed,
            push_to_hub=self.push_to_hub,
            arguments=dict(map(_argument, self.set)),
        )


def confirm(
    run: str,
    /,
    *,
    study: str | None = None,
    trial: tuple[Whole, ...] | None = None,
    again: bool = False,
) -> None:
    """Measure the students of the front again, from their exported files.

    Each student is loaded in a process of its own. Its latency is measured interleaved with the
    teacher's, its quality also on data that the search never used. The figures are stored with
    the run: table and report show them.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        trial: A trial's number; may be repeated (default: all students of the front).
        again: Measure those again that are confirmed already.
    """
    front = declared_front(run, study)
    with watching("measuring exported students"):
        found = front.confirm(trial, again=again, tell=say)
    for note in front.precision_notes:
        say(note)
    for number, above in front.overtaken.items():
        if number in found:
            say(f"trial {number}: dominated by the confirmed figures of trial {above[0]}")


def train(  # noqa: PLR0913 - one keyword for each choice of a user
    run: str,
    /,
    *,
    study: str | None = None,
    budget: tuple[str, ...] | None = None,
    trial: Whole | None = None,
    to: Path | None = None,
    teacher: str | None = None,
    resume: bool = False,
    data: DataOptions = DataOptions(),
    training: TrainingOptions = TrainingOptions(),
    **objective: str,
) -> None:
    """Train a student of a run, or an exported one, on its teacher's outputs.

    Budgets are those of protege pick. The student is trained with the study's own losses by
    transformers.Trainer, also in several processes: accelerate launch --num-processes 2
    $(which protege) train RUN ...

    Args:
        run: The run folder, its study.db, a storage URL, the study file, or the folder of an
            exported student.
        study: The study's name, where a storage has several.
        budget: A budget as OBJECTIVE=NUMBER, such as latency_ms=8; may be repeated.
        trial: The trial's number, in place of budgets.
        to: A new folder (default: trained/LABEL in the run folder, or FOLDER-trained).
        teacher: Folder or hub id of the teacher (default: the study's, or the hub's).
        resume: Continue an interrupted training from its last checkpoint.
        data: The data.
        training: How long and how.
        objective: A budget on that objective, such as --latency-ms 8 for --budget latency_ms=8.
    """
    from protege.search.handover.starting import DataFile, full_training

    first = os.environ.get("RANK", "0") == "0"
    with watching("loading") as announce:
        options: dict[str, Any] = {
            "plan": training.plan(),
            "teacher": teacher,
            "tell": say if first else _nothing,
            "show": announce if first else _nothing,
        }
        columns = (data.text, data.label, data.pair)
        given = None if data.data is None else DataFile(data.data, *columns)
        if data.eval_data is not None:
            options["evaluation"] = DataFile(data.eval_data, *columns)
        if (Path(run) / MANIFEST).is_file():
            from protege.search.handover.exported import ExportedStudent

            if budget or objective or trial is not None:
                raise BadInput(f"{run}: a student's folder; budgets and --trial are for a run")
            student = ExportedStudent.read(run)
            target = to or student.folder.with_name(f"{student.folder.name}-trained")
            folder = full_training(student, given, target, **options).run(resume=resume)
        else:
            front = declared_front(run, study)
            found = budgets_of(front, budget or (), objective)
            if trial is not None and found:
                raise BadInput(f"--trial {trial}: name a trial or give budgets, not both")
            chosen = front.pick(**found).trial if trial is None else front.trial(trial)
            options["tell"](f"trial {chosen.number}: {printable(chosen.label)}")
            folder = front.train(chosen, given, to, resume=resume, **options)
    if first:
        say(f"Student: {printable(folder)}")
        say(f"To use it: see {printable(quoted(folder / 'README.md'))}")


def _argument(word: str) -> tuple[str, Any]:
    """Return the name and the value of ``NAME=VALUE``."""
    name, given, value = word.partition("=")
    if not given or not name.isidentifier():
        raise BadInput(f"--set {word}: expected NAME=VALUE, such as report_to=tensorboard")
    known: Mapping[str, Any] = {"true": True, "false": False, "none": None}
    if value.lower() in known:
        return name, known[value.lower()]
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _nothing(_: str) -> None:
    """Print nothing: another process does."""
