"""Train a student on its teacher's outputs after the search."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from protege.objectives import Candidate, Distillation, Examples, Objective, Retention
from protege.objectives.candidate import Prepared
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.teacher_outputs import LiveOutputs
from protege.objectives.distillation.training import Training
from protege.objectives.machine.stopwatch import Stopwatch
from protege.objectives.measurement import Measurement, Stage
from protege.objectives.quality.rungs import training_of
from protege.search.handover.checkpoint import model_card
from protege.search.handover.deepening import deepened
from protege.search.handover.distilled_module import DistilledModule
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.trainer import (
    ELAPSED,
    NEVER,
    Announcing,
    DistillationTrainer,
    LayerDropping,
    TrainingClock,
)
from protege.spaces import BadInput, Cache, Teacher
from protege.spaces.checkpoints.source import quiet
from protege.spaces.files.atomic import atomic, full_disk_told, write_text
from protege.spaces.files.manifest import write_manifest

CHECKPOINTS = "-checkpoints"
"""Suffix of the folder with the checkpoints of an unfinished training, beside the student's."""

ALL = 2**40
"""More steps than any training has: all the data is read."""

LOGGED = 50
"""Steps between two logged losses, unless the arguments say otherwise."""


@dataclass(frozen=True)
class FullTraining:
    """The training of an exported student.

    Attributes:
        student: The student's folder.
        teacher: The model that answers.
        distillation: The study's losses and settings; the plan overrides its length, batch size
            and learning rate. Its data is what the student is trained on.
        target: The new folder of the trained student.
        plan: The settings.
        objectives: Objectives to evaluate by, of which those that judge students are used; by
            default `Retention`. The first selects the published weights.
        evaluation: Data to evaluate on; None holds a part of the training data out.
        cache: Cache of the teacher's outputs; by default beside the target.
        owns_teacher: Whether the teacher was loaded for this training only; then its weights are
            dropped once its outputs are known.
        tell: Prints a line.
        show: Shows a line in place of the last one.
    """

    student: ExportedStudent
    teacher: Teacher
    distillation: Distillation
    target: Path
    plan: TrainingPlan = field(default_factory=TrainingPlan)
    objectives: Sequence[Objective] = ()
    evaluation: Examples | None = None
    cache: Cache | None = None
    owns_teacher: bool = False
    tell: Callable[[str], None] = lambda _: None
    show: Callable[[str], None] = lambda _: None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, removed at the end."""
        return self.target.with_name(self.target.name + CHECKPOINTS)

    def run(self, *, resume: bool = False) -> Path:
        """Train the student and write it to its folder.

        Under ``accelerate launch`` every process calls this; the first one writes.

        Args:
            resume: Whether to continue from the last checkpoint.

        Returns:
            The folder.

        Raises:
            BadInput: The folder is not empty, there are checkpoints and `resume` is not set, or
                the data does not fit the teacher.
        """
        began = time.monotonic()
        self._check_folders(resume=resume)
        start = self.start
        training = self._training(start)
        judges = self._judges()
        with ExitStack() as stack:
            trainer = self._trainer(start, training, judges, stack)
            before = self._measured(start, judges)
            self.tell(f"before training: {_listed(before)}")
            self._free_teacher(training)
            trainer.training_clock.leave_out(time.monotonic() - began)
            last = self._last_checkpoint() if resume else None
            if last is not None:
                trainer.training_clock.resume(Path(last))
            # its progress is told otherwise
            with quiet(), full_disk_told(self.checkpoints):
                trainer.train(resume_from_checkpoint=last)
            trained = start.trained(training.reached())
            trained.student.module.cpu()
            after = self._measured(trained, judges)
            record = self._record(trainer, training, before, after)
            if _lost(before, after, judges[0]):
                self.tell("training could not improve the student; it is published as it was")
                trained, record = start, record | {"best_step": 0, "after": record["before"]}
            if trainer.is_world_process_zero():
                self._write(trained, record)
            trainer.accelerator.wait_for_everyone()
        return self.target

    def _training(self, start: Candidate) -> Training:
        """Return the training of the student, which starts deeper if the plan says so.

        Raises:
            BadInput: The student cannot start deeper; see `deepened`.
        """
        found, progressive = training_of(start), self.plan.progressive
        if progressive is None:
            return found
        if self.distillation.hidden_losses:
            raise BadInput(
                "progressive with losses on hidden states or attention: the matched layers are "
                "dropped during training; leave out one of the two"
            )
        if self.student.manifest.get("answers_from"):
            raise BadInput(
                f"progressive: {self.student.folder} was cut from another model than the one that "
                "answers, and its further layers would have to come from there; train without it"
            )
        deep = deepened(self.teacher, start.student, progressive)
        if deep is None:
            self.tell("progressive: the student lacks no layer of its teacher; it starts as it is")
            return found
        count = sum(map(len, deep.going.values()))
        self.tell(f"progressive: the student starts with {count} more layers, and drops them")
        return replace(found, student=deep.student, shrinking=deep)

    @cached_property
    def start(self) -> Candidate:
        """The student as it was exported."""
        return self.student.candidate(self.prepared)

    @cached_property
    def prepared(self) -> Prepared:
        """What objectives and training share."""
        own, plan = self.distillation, self.plan
        rate: dict[str, Any] = {}
        if plan.learning_rate is not None:
            rate = {"learning_rate": plan.learning_rate, "full_rate_at": 0.0}
        settings = replace(
            own,
            data=own.data if self.evaluation is None else own.data.without(self.evaluation),
            steps=ALL,
            batch_size=plan.batch_size,
            selection=plan.held_out if self.evaluation is None else 1,
            held_out=0,
            rungs=(),
            progressive=None,
            precision=plan.precision,
            **rate,
        )
        cache = self.cache or Cache(self.checkpoints / "cache")
        watch = Stopwatch(announce=self.show)
        return Prepared(self.teacher, cache, settings, seed=plan.seed, stopwatch=watch)

    def _judges(self) -> list[Objective]:
        late = [one for one in self.objectives if one.stage is Stage.STUDENT]
        return late or [Retention()]

    def _measured(
        self, candidate: Candidate, judges: Sequence[Objective]
    ) -> dict[str, Measurement]:
        return {one.name: self._value(candidate, one) for one in judges}

    def _value(self, candidate: Candidate, judge: Objective) -> Measurement:
        """Measure a student; its retention on the data to evaluate on, if that is given."""
        if self.evaluation is None or judge != Retention(limit=judge.limit):
            return judge.measure(candidate)
        return Retention().measured_on(candidate, self.prepared.data, self.sample)

    @cached_property
    def sample(self) -> TaskInputs:
        """The data to evaluate on."""
        assert self.evaluation is not None  # `_value` looks
        return self.prepared.data.sampled(self.evaluation, self.plan.held_out)

    def _trainer(
        self,
        start: Candidate,
        training: Training,
        judges: Sequence[Objective],
        stack: ExitStack,
    ) -> DistillationTrainer:
        plan = self.plan
        if plan.gradient_checkpointing:
            _checkpoint_activations(training.student.model)
        clock = TrainingClock(plan.minutes, plan.evaluates_from)
        callbacks: list[TrainerCallback] = [Announcing(self.show, clock)]
        if training.shrinking is not None:
            callbacks.append(LayerDropping(training.shrinking, clock))
        if plan.patience is not None:
            callbacks.append(EarlyStoppingCallback(plan.patience))

        def evaluate() -> Mapping[str, float]:
            found = self._measured(start.trained(training.reached()), judges)
            self.tell(f"{clock.done:.0%} of the training: {_listed(found)}")
            return {name: one.value for name, one in found.items()}

        return DistillationTrainer(
            DistilledModule(training, stack),
            plan,
            self._arguments(judges[0]),
            evaluate,
            clock,
            callbacks,
            stack,
        )

    def _arguments(self, first: Objective) -> TrainingArguments:
        """Return the trainer's arguments.

        Raises:
            BadInput: The plan names an argument that does not exist, or a value is refused.
        """
        plan = self.plan
        given: dict[str, Any] = {
            "logging_steps": LOGGED,
            "report_to": "none",
            "save_total_limit": 2,
        }
        given |= {"weight_decay": self.distillation.weight_decay}
        given |= {"max_grad_norm": self.distillation.max_gradient, **plan.arguments}
        try:
            arguments = TrainingArguments(
                output_dir=str(self.checkpoints),
                num_train_epochs=plan.epochs,
                max_steps=plan.steps or -1,
                eval_strategy="steps",
                eval_steps=NEVER,
                save_strategy="steps",
                save_steps=NEVER,
                load_best_model_at_end=True,
                metric_for_best_model=f"eval_{first.name}",
                greater_is_better=first.direction == "maximize",
                remove_unused_columns=False,
                disable_tqdm=True,
                seed=plan.seed,
                **given,
            )
        except (TypeError, ValueError) as error:
            raise BadInput(f"training arguments {dict(plan.arguments)}: {error}") from error
        parts = arguments.world_size * arguments.gradient_accumulation_steps
        if plan.batch_size % parts:
            raise BadInput(
                f"batch_size={plan.batch_size}: expected a multiple of {parts}, the processes "
                "times the accumulated batches"
            )
        arguments.per_device_train_batch_size = plan.batch_size // parts
        return arguments

    def _check_folders(self, *, resume: bool) -> None:
        target = self.target
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise BadInput(
                f"{target}: not empty; train into a new folder, or remove this one first"
            )
        last = self._last_checkpoint()
        if last is not None and not resume:
            raise BadInput(
                f"{self.checkpoints}: a training was interrupted here; continue it with --resume, "
                "or remove the folder"
            )
        if last is None and resume:
            raise BadInput(
                f"{self.checkpoints}: no checkpoint to resume from; train without --resume"
            )

    def _last_checkpoint(self) -> str | None:
        """Return the last complete checkpoint; a killed process may leave one without its end."""
        found = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{ELAPSED}")]
        steps = {int(path.name.rpartition("-")[2]): path for path in found}
        return str(steps[max(steps)]) if steps else None

    def _free_teacher(self, training: Training) -> None:
        """Drop the teacher's weights if all its outputs are known and nobody else has it."""
        if self.owns_teacher and not isinstance(training.answers, LiveOutputs):
            weights: nn.Module = self.teacher.model
            weights.to("meta")

    def _record(
        self,
        trainer: DistillationTrainer,
        training: Training,
        before: Mapping[str, Measurement],
        after: Mapping[str, Measurement],
    ) -> dict[str, Any]:
        """Return what is published about the training."""
        inputs, state = training.inputs, trainer.state
        return {
            "steps": state.global_step,
            "best_step": state.best_global_step,
            "epochs": round(state.epoch or 0.0, 4),
            "seconds": round(trainer.training_clock.elapsed, 1),
            "learning_rate": training.settings.learning_rate,
            "batch_size": self.plan.batch_size,
            "sequences": len(inputs),
            "tokens": int(inputs.lengths.sum()),
            "losses": [
                [one["step"], round(one["loss"], 6)] for one in state.log_history if "loss" in one
            ],
            "before": {name: [one.value, one.spread] for name, one in before.items()},
            "after": {name: [one.value, one.spread] for name, one in after.items()},
        }

    def _write(self, trained: Candidate, record: Mapping[str, Any]) -> None:
        manifest = {**self.student.manifest, "trained": dict(record)}
        if self.target.exists():
            self.target.rmdir()
        with atomic(self.target) as scratch:
            trained.student.save(scratch)
            write_manifest(scratch, manifest)
            write_text(scratch / "README.md", model_card(manifest))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        if self.plan.push_to_hub:
            hub = HfApi()
            place = hub.create_repo(self.plan.push_to_hub, exist_ok=True)
            hub.upload_folder(repo_id=place.repo_id, folder_path=self.target)


def _lost(
    before: Mapping[str, Measurement], after: Mapping[str, Measurement], first: Objective
) -> bool:
    """Return whether the first objective lost by the training."""
    gained = after[first.name].value - before[first.name].value
    return gained < 0 if first.direction == "maximize" else gained > 0


def _checkpoint_activations(model: Any) -> None:
    """Let a model compute activations again in the backward pass."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)()


def _listed(found: Mapping[str, Measurement]) -> str:
    return ", ".join(f"{name} {one.value:.4f} ± {one.spread:.4f}" for name, one in found.items())
