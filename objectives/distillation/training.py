"""The training loop of one student, which halts at given steps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from protege.objectives.distillation.batch_norms import learnt_tensors, train_batch_norms
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.losses.hooked import AttachedLoss
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.mixed_precision import autocast, device_of
from protege.objectives.distillation.optimizers import Optimizers
from protege.objectives.distillation.progressive import Shrinking
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.distillation.teacher_outputs import LiveOutputs, TeacherOutputs
from protege.objectives.machine.lock import shared_machine
from protege.spaces import ProtegeError, Student, Teacher

State = dict[str, Tensor]
"""The state of a training: parameters and optimiser tensors by name, and the losses."""

STUDENT, _OPTIMIZER = "student.", "optimizer."
"""Prefixes of the student's parameters and the optimisers' tensors in a state."""

DISTANCE_ROWS = 128
"""Rows from which a student's distance to its teacher is measured, in at most four batches."""

LOST = 10
"""Steps over which the loss is averaged to detect divergence."""


@dataclass
class Training:
    """The training of one student.

    Attributes:
        settings: Distillation settings.
        student: The student to train; its weights change from step to step.
        task: The task.
        inputs: Training inputs.
        answers: Teacher outputs.
        teacher: The teacher, for losses on hidden states or attention.
        shrinking: Drops layers during training; None for a fixed depth.
        seed: Seed of the data order.
        announce: Progress callback, called after each step.
        losses: The loss of every step so far.
        resumed_from: A saved `state` to resume from; empty for a new training.
    """

    settings: Distillation
    student: Student
    task: DistillationTask
    inputs: TaskInputs
    answers: TeacherOutputs
    teacher: Teacher
    shrinking: Shrinking | None = None
    seed: int = 0
    announce: Callable[[str], None] = lambda _: None
    losses: list[float] = field(default_factory=list)
    resumed_from: Mapping[str, Tensor] = field(default_factory=dict)
    _state: Callable[[], State] = field(default=dict, init=False)

    def distance(self, student: Student) -> float:
        """Measure how far an untrained student's outputs are from the teacher's.

        Returns:
            The task's default loss on the first batches, divided by the loss of all-zero outputs; 0
            for the teacher itself. All students get the same batches.
        """
        settings, device = self.settings, device_of(self.settings.device)
        both = nn.ModuleList([student.module.eval()])
        if isinstance(self.answers, LiveOutputs) and not self.answers.is_sharded:
            both.append(self.answers.module)
        batches = self.inputs.shuffled(settings.batch_size, self.seed, settings.accumulate)
        rows, own, nothing = 0, 0.0, 0.0
        both.to(device)
        # several batches, since each has texts of similar length only
        for part in (one.to(device) for batch in islice(batches, 4) for one in batch):
            if not len(part.rows) or rows >= DISTANCE_ROWS:
                continue
            rows += len(part.rows)
            with shared_machine(), torch.no_grad(), autocast(settings.precision, device):
                answer = self.task.answer(student.module, part).float()
                targets = self.targets(part)
            own += len(part.rows) * float(self._difference(answer, targets, part))
            empty = torch.zeros_like(answer)
            nothing += len(part.rows) * float(self._difference(empty, targets, part))
        both.cpu()
        return max(own, 0.0) / nothing if nothing > 0 else 1.0

    def _difference(self, answer: Tensor, targets: Targets, part: Batch) -> Tensor:
        """Compute the task's default loss, which is 0 for the teacher's outputs."""
        labels = self.inputs.labels[part.rows].to(answer.device)
        losses = (term.of(answer, targets, labels) for term in self.task.losses)
        return sum(losses, start=answer.new_zeros(()))

    def at_rate(self, start: Student) -> "Training":
        """Return this training with the peak rate that fits the distance from the teacher."""
        if self.settings.full_rate_at == 0:
            return self
        rate = self.settings.rate(self.distance(start), self.task)
        return replace(self, settings=replace(self.settings, learning_rate=rate))

    def reached(self) -> Student:
        """Return the student of the current halt.

        Its weights change as training goes on, unless layers are dropped: then it is a copy.
        """
        return self.student if self.shrinking is None else self.shrinking.finish()

    def state(self) -> State:
        """Return parameters, optimiser state and losses; call it while `run` has halted."""
        return self._state()

    def run(self, stops: Iterator[int] | list[int]) -> Iterator[int]:
        """Train, and halt after each of the given steps.

        A resumed training ends bit-identical to an uninterrupted one.

        Args:
            stops: Steps to halt after, ascending; for a resumed training the remaining ones.

        Yields:
            The number of steps done; the student is on the CPU then.

        Raises:
            ProtegeError: The training diverged; see `check`.
            Unsupported: `layer_decay` is not 1 and the layers of the module are unknown.
        """
        settings, module = self.settings, self.student.module.eval()
        device = device_of(settings.device)
        both = nn.ModuleList([module])
        if isinstance(self.answers, LiveOutputs) and not self.answers.is_sharded:
            both.append(self.answers.module)
        with ExitStack() as stack:
            stack.callback(both.to(device).cpu)
            watches = self.attached(stack)
            along = [parameter for _, watch in watches for parameter in watch.parameters()]
            optimizers = Optimizers(module, settings, along, stack)
            if self.resumed_from:
                optimizers.load(self._recall(along), len(self.losses))
            self._state = partial(self._state_with, along, optimizers)
            step = len(self.losses)
            batches = self.inputs.shuffled(
                settings.batch_size, self.seed, settings.accumulate, skip=step
            )
            for stop in stops:
                while step < stop:
                    if self.shrinking:
                        self.shrinking.advance(step, settings.steps)
                    parts = [one.to(device) for one in next(batches)]
                    with shared_machine():
                        self._learn(parts, watches)
                        norm = optimizers.step()
                    step += 1
                    self.check(step, norm, parts)
                    self.announce(f"distil {step}/{settings.steps}")
                both.eval().cpu()  # evaluation at a halt runs on the CPU
                yield step
                both.to(device)

    def _state_with(self, along: Sequence[Tensor], optimizers: Optimizers) -> State:
        trained = _trained(self.student.module, along).items()
        known = {f"{_OPTIMIZER}{name}": value for name, value in optimizers.state().items()}
        losses = torch.tensor(self.losses, dtype=torch.double)
        return {name: one.detach().cpu() for name, one in trained} | known | {"losses": losses}

    def _recall(self, along: Sequence[Tensor]) -> State:
        """Load parameters and losses from `resumed_from` and return the optimisers' state."""
        taken = dict(self.resumed_from)
        self.losses[:] = taken.pop("losses").tolist()
        with torch.no_grad():
            for name, parameter in _trained(self.student.module, along).items():
                parameter.copy_(taken.pop(name))
        return {name.removeprefix(_OPTIMIZER): value for name, value in taken.items()}

    def _learn(self, parts: list[Batch], watches: list[tuple[float, AttachedLoss]]) -> None:
        """Accumulate the gradients of one step over the parts of its batch."""
        rows = sum(len(part.rows) for part in parts)
        total = 0.0
        for part in parts:
            if not len(part.rows):  # the mean over no rows is NaN
                continue
            train_batch_norms(self.student.module, len(part.rows))
            with autocast(self.settings.precision, device_of(self.settings.device)):
                targets = self.targets(part)
                answer = self.task.answer(self.student.module, part)
            loss = self.loss(answer.float(), targets, part)
            for weight, watch in watches:
                loss = loss + weight * watch.loss(part.mask)
            share = loss * (len(part.rows) / rows)
            share.backward()
            total += float(share.detach())
        self.losses.append(total)

    def targets(self, part: Batch) -> Targets:
        """Return the teacher outputs of a batch, on the batch's device."""
        device = next(iter(part.inputs.values())).device
        return {name: one.to(device) for name, one in self.answers.to(part).items()}

    def loss(self, answer: Tensor, targets: Targets, part: Batch) -> Tensor:
        """Compute the weighted sum of the losses on outputs."""
        labels = self.inputs.labels[part.rows].to(answer.device)
        terms = self.settings.terms(self.task)
        return sum(
            (term.weight * term.of(answer, targets, labels) for term in terms),
            start=answer.new_zeros(()),
        )

    def attached(self, stack: ExitStack) -> list[tuple[float, AttachedLoss]]:
        """Attach the losses on hidden states or attention until the stack closes.

        Returns:
            The weight of each, and the loss.
        """
        watches = []
        for loss in self.settings.hidden_losses:
            watch = loss.attach(self.student, self.teacher)
            stack.callback(watch.close)
            watches.append((loss.weight, watch))
        return watches

    def check(self, step: int, norm: Tensor, parts: list[Batch]) -> None:
        """Check that the training has not diverged.

        Raises:
            ProtegeError: Loss or gradient is not finite, or the loss exceeds twice the first loss
                and that of all-zero outputs.
        """
        settings, loss = self.settings, self.losses[-1]
        advice = (
            f"lower learning_rate={settings.learning_rate:g} or raise warmup={settings.warmup:g}"
        )
        if not (math.isfinite(loss) and bool(torch.isfinite(norm))):
            raise ProtegeError(
                f"distillation diverged at step {step} of {settings.steps} (loss {loss}, norm of "
                f"the gradient {float(norm):g}); {advice}"
            )
        if step < 2 * LOST:
            return
        # the first loss only: the second step may already have diverged
        first, last = self.losses[0], sum(self.losses[-LOST:]) / LOST
        if last > 2 * first and last > self._zero_loss(parts) > first:
            raise ProtegeError(
                f"distillation diverged: at step {step} of {settings.steps} the student is worse "
                f"than all-zero outputs (loss {last:.4g}, at first {first:.4g}); {advice}"
            )

    def _zero_loss(self, parts: list[Batch]) -> float:
        """Compute the loss of all-zero outputs."""
        with torch.inference_mode():
            answer = self.task.answer(self.student.module, parts[0]).float()
            return float(self.loss(torch.zeros_like(answer), self.targets(parts[0]), parts[0]))


def _trained(module: nn.Module, along: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return every trained parameter and statistic by name; tied parameters once."""
    own = {f"{STUDENT}{name}": one for name, one in learnt_tensors(module).items()}
    return own | {f"along.{number}": one for number, one in enumerate(along)}
