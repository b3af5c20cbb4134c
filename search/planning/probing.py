"""Measure the cost of a training step on students of one and of two layers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from protege.objectives.candidate import Prepared
from protege.objectives.distillation.losses.hooked import HiddenLoss
from protege.objectives.distillation.teacher_outputs import CachedOutputs, compute_outputs
from protege.objectives.distillation.training import Training
from protege.spaces import Architecture, First, Teacher, Uniform

STEPS = 3
"""Steps of a probe; the first is not timed, as it creates the optimiser's state."""


@dataclass(frozen=True)
class TrainingProbe:
    """The cost of a training step.

    Attributes:
        step_s: Seconds per step.
        saved_bytes: Bytes of activations and bf16 weights saved for the backward pass.
    """

    step_s: float
    saved_bytes: float

    def deeper(self, other: "TrainingProbe", times: float) -> "TrainingProbe":
        """Extrapolate to a deeper student.

        Args:
            other: The probe of a student that is deeper by some layers.
            times: Multiple of those layers to add.
        """
        return TrainingProbe(
            self.step_s + times * max(0.0, other.step_s - self.step_s),
            self.saved_bytes + times * max(0.0, other.saved_bytes - self.saved_bytes),
        )


def probe_training(prepared: Prepared, member: Architecture) -> TrainingProbe:
    """Estimate the cost of a training step of a student.

    Students of its widths with one and with two layers are trained for a few steps.

    Args:
        prepared: What all students share.
        member: The student.
    """
    teacher = prepared.teacher
    if not prepared.settings.steps:
        return TrainingProbe(0.0, 0.0)
    first, second = (_of_depth(member, layers, teacher) for layers in (1, 2))
    one = _probe(prepared, first)
    if member.num_hidden_layers == 1:
        return one
    times = (_depth(member) - _depth(first)) / (_depth(second) - _depth(first))
    return one.deeper(_probe(prepared, second), times)


def _depth(architecture: Architecture) -> int:
    """Return the number of layers of both stacks."""
    return architecture.num_hidden_layers + architecture.num_decoder_layers


def _of_depth(member: Architecture, layers: int, teacher: Teacher) -> Architecture:
    """Return a student's architecture with `layers` layers, which keeps the first units."""
    own = teacher.architecture
    # keep the ratio of decoder to encoder layers
    ratio = member.num_decoder_layers / member.num_hidden_layers
    return replace(
        member,
        num_hidden_layers=layers,
        num_decoder_layers=round(max(1, layers * ratio)) if member.num_decoder_layers else 0,
        vocab_size=own.vocab_size,
        layer_policy=Uniform(),
        width_policy=First(),
        healing="none",
    )


def _probe(prepared: Prepared, architecture: Architecture) -> TrainingProbe:
    teacher, own = prepared.teacher, prepared.settings
    answering = tuple(one for one in own.losses if not isinstance(one, HiddenLoss))
    # one part of a batch: what each part saves is freed before the next, and its memory used again
    part = max(1, own.batch_size // own.accumulate)
    settings = replace(
        own, steps=STEPS, losses=answering, progressive=None, batch_size=part, accumulate=1
    )
    student = teacher.student(architecture)
    asked = prepared.data.learnt.first(settings.batch_size)
    task = settings.tuned(prepared.data.task)
    answers = CachedOutputs.of(asked, compute_outputs(student.module, task, asked))
    training = Training(settings, student, task, asked, answers, teacher)
    halts, seconds = training.run(list(range(1, STEPS + 1))), list[float]()
    with _counting(student.module) as saved:
        next(halts)
        kept = float(sum(saved.values()))
    began = time.perf_counter()
    for _ in halts:
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return TrainingProbe(min(seconds) * own.accumulate, kept)


@contextmanager
def _counting(module: nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that a forward pass saves for its backward pass, by address."""
    own = {one.untyped_storage().data_ptr() for one in module.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
