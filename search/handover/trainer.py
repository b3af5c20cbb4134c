"""The transformers `Trainer` of a student, and its callbacks."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from protege.objectives.distillation.optimizers import LazyAdamW, groups, lazy_adamw
from protege.objectives.distillation.progressive import Shrinking
from protege.objectives.distillation.training import Training
from protege.search.handover.distilled_module import (
    DistilledModule,
    EpochBatches,
    SequenceNumbers,
    collate,
)
from protege.search.handover.plan import EVALUATIONS, TrainingPlan
from protege.spaces.files.atomic import write_text

ELAPSED = "elapsed.json"
"""File in a checkpoint with the seconds of training so far."""

OPTIMISER_ARGUMENTS = frozenset(
    {"optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "deepspeed"}
)
"""Training arguments that name an optimiser, or its settings."""

NEVER = 10**9
"""An interval in steps that is not reached: callbacks decide when to evaluate and save."""


@dataclass
class TrainingClock(TrainerCallback):
    """How much of a training is done, by steps or by minutes, equal on all processes.

    It evaluates and saves `EVALUATIONS` times, and ends a training whose minutes are over.

    Attributes:
        minutes: Maximum minutes, or None.
        evaluates_from: The fraction of the training from which on it evaluates.
        clock: Returns the time in seconds.
        elapsed: Seconds of training, evaluation left out.
        done: The fraction of the training that is done.
    """

    minutes: float | None
    evaluates_from: float = 0.0
    clock: Callable[[], float] = time.monotonic
    elapsed: float = field(default=0.0, init=False)
    done: float = field(default=0.0, init=False)
    _began: float = field(default=0.0, init=False)
    _passed: int = field(default=0, init=False)

    def leave_out(self, seconds: float) -> None:
        """Take the seconds before the training, for the teacher's outputs, off its minutes.

        A tenth of the minutes stays in any case.
        """
        if self.minutes is not None:
            self.minutes = max(self.minutes - seconds / 60, self.minutes / 10)

    def resume(self, checkpoint: Path) -> None:
        """Read the seconds of training before a checkpoint."""
        self.elapsed = float(json.loads((checkpoint / ELAPSED).read_text(encoding="utf-8")))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._settle(args, state)
        self._passed = int(self.done * EVALUATIONS)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = self.clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.elapsed += self.clock() - self._began
        self._settle(args, state)
        if self.done >= 1:
            control.should_training_stop = True
        passed = int(self.done * EVALUATIONS)
        control.should_save = passed > self._passed
        control.should_evaluate = control.should_save and self.done >= self.evaluates_from
        self._passed = max(passed, self._passed)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_text(folder / ELAPSED, json.dumps(self.elapsed))

    def left(self) -> float | None:
        """Return the estimated seconds of training left; None before the first step."""
        return self.elapsed / self.done * (1 - self.done) if self.done else None

    def _settle(self, args: Any, state: Any) -> None:
        self.done = state.global_step / state.max_steps
        if self.minutes is None:
            return
        shared = [self.elapsed]
        if args.world_size > 1:
            broadcast_object_list(shared)
            self.elapsed = shared[0]
        self.done = max(self.done, shared[0] / (60 * self.minutes))


class LayerDropping(TrainerCallback):
    """Drops layers of a deep student during training; see `Progressive`.

    Args:
        shrinking: The deep student and its schedule.
        clock: Tells how much of the training is done.
    """

    PARTS = 10_000

    def __init__(self, shrinking: Shrinking, clock: TrainingClock) -> None:
        self._shrinking, self._clock = shrinking, clock

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._shrinking.advance(int(self._clock.done * self.PARTS), self.PARTS)


class Announcing(TrainerCallback):
    """Shows step, loss and remaining time after each logged step.

    Args:
        show: Shows a line in place of the last one.
        clock: Tells how much of the training is done.
    """

    def __init__(self, show: Callable[[str], None], clock: TrainingClock) -> None:
        self._show, self._clock = show, clock

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
    ) -> None:
        if not logs or "loss" not in logs:
            return
        left = self._clock.left()
        ends = "" if left is None else f", {left / 60:.0f} min left"
        self._show(f"step {state.global_step}, loss {logs['loss']:.4g}{ends}")


class DistillationTrainer(Trainer):
    """Trains a student on its teacher's outputs, as `transformers.Trainer` trains any model.

    Args:
        module: The student with its loss.
        plan: The settings.
        arguments: The trainer's own arguments.
        evaluate: Measures the student on held-out data: values by name.
        clock: Tells how much of the training is done.
        callbacks: Further callbacks.
        stack: Undoes what training changes in the student when it closes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a trainer's parts
        self,
        module: DistilledModule,
        plan: TrainingPlan,
        arguments: TrainingArguments,
        evaluate: Callable[[], Mapping[str, float]],
        clock: TrainingClock,
        callbacks: list[TrainerCallback],
        stack: ExitStack,
    ) -> None:
        self._stack = stack
        self._distilled: Training = module.training_of
        self._plan, self._measure, self.training_clock = plan, evaluate, clock
        numbers = SequenceNumbers(len(self._distilled.inputs))
        super().__init__(
            model=module,
            args=arguments,
            data_collator=partial(collate, self._distilled),
            train_dataset=numbers,
            eval_dataset=numbers,  # asked for; `evaluate` has its own
            callbacks=[clock, *callbacks],
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of this process, of similar length and as the search orders them."""
        args = self.args
        parts = args.world_size * args.gradient_accumulation_steps
        step_size = args.per_device_train_batch_size * parts
        batches = EpochBatches(self._distilled.inputs, step_size, parts, self._plan.seed)
        loader: DataLoader[Any] = DataLoader(
            SequenceNumbers(len(self._distilled.inputs)),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimiser that the arguments name, with the study's groups of parameters.

        If they name none, it is the search's own, which clips gradients itself.
        """
        if self.optimizer is not None:
            return self.optimizer
        own: Any = model or self.model
        settings, args = self._distilled.settings, self.args
        if not OPTIMISER_ARGUMENTS & self._plan.arguments.keys() and not self.is_fsdp_enabled:
            settings = replace(settings, max_gradient=args.max_grad_norm or inf)
            args.max_grad_norm = 0.0
            alone = args.world_size == 1
            self.optimizer = lazy_adamw(
                own.student, settings, own.along, self._stack if alone else None
            )
            return self.optimizer
        kind, options = self.get_optimizer_cls_and_kwargs(args, own)
        options.pop("lr", None)
        every = groups(own.student, settings, own.along)
        self.optimizer = kind(every, lr=settings.learning_rate, **options)
        return self.optimizer

    def _get_grad_norm(self, model: nn.Module, grad_norm: float | None = None) -> float | None:
        """Return the norm of the gradients, to be logged.

        Transformers would compute it with clipping, which sparse gradients do not have.
        """
        if isinstance(own := getattr(self.optimizer, "optimizer", None), LazyAdamW):
            return float(own.norm)  # that of the last step
        plain: Any = super()  # untyped in transformers
        found: float | None = plain._get_grad_norm(model, grad_norm)  # noqa: SLF001 - extended
        return found

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LambdaLR:
        """Create the schedule of `TrainingPlan.pace`, by steps or by minutes."""
        if self.lr_scheduler is None:
            per_step, own = 1 / num_training_steps, optimizer or self.create_optimizer()
            pace, clock = self._plan.pace, self.training_clock
            self.lr_scheduler = LambdaLR(own, lambda _: pace(clock.done + per_step))
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the student on held-out data, by the study's objectives."""
        found = self._measure()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
