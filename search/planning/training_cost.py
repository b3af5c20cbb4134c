"""Time and memory of training a student, probed on two shallow students."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from protege.objectives.candidate import Prepared
from protege.objectives.distillation.losses.hooked import HiddenLoss
from protege.objectives.distillation.mixed_precision import device_of
from protege.objectives.distillation.teacher_outputs import CachedOutputs, compute_outputs
from protege.objectives.distillation.training import Training
from protege.search.planning.calibration_cost import held_bytes
from protege.search.planning.estimate import WORTH_TELLING, Estimate, Rates, is_costly
from protege.search.planning.needs import Needs
from protege.spaces import Architecture, BadInput, First, ProtegeError, Teacher, Uniform
from protege.spaces.files.memory import available_bytes
from protege.spaces.models.placement import can_spill, spill
from protege.spaces.residual.states import tokens_for

STEPS = 4
"""Steps of a probe; the first is not timed, as it creates the optimiser's state."""

DEPTHS = (1, 4)
"""Layers of the two probed students. The further apart they are, the less a disturbed step matters
to a deep student's estimate."""


def check_training_cost(
    prepared: Prepared,
    members: list[Architecture],
    worth: float = WORTH_TELLING,
    memory: Callable[[], float | None] = available_bytes,
) -> int:
    """Report what training the largest student of a space takes.

    If it takes more than half of the free memory, the teacher's weights are moved to memory-mapped
    files, as training does not read them. If that is not enough, batches are split into parts.

    Args:
        prepared: What all students share; its stopwatch tells each line of the report.
        members: The students of the space.
        worth: Operations of one pass over the data from which on there is a report.
        memory: Returns the bytes of free memory, or None if unknown.

    Returns:
        The number of parts per batch; 1 for whole batches.

    Raises:
        BadInput: This machine has too little memory.
    """
    teacher, settings, tell = prepared.teacher, prepared.settings, prepared.stopwatch.tell
    folder, learnt = prepared.cache.folder, prepared.data.learnt
    member = largest(members, teacher)
    on_cpu = device_of(settings.device).type == "cpu"
    if member is None or not on_cpu or not is_costly(teacher, learnt, worth):
        return 1
    needs = Needs.of_members(members, teacher.architecture)
    try:
        rates = Rates.of(teacher, learnt)
        estimate = training_estimate(prepared, member, rates, held_bytes(teacher, needs))
    except BadInput:
        raise
    except ProtegeError as error:  # the trial will report the error
        tell(f"largest student: memory and time could not be estimated ({error})")
        return 1
    if estimate.held > _free(memory) / 2 and can_spill(teacher.model, folder):
        spill(teacher.model, folder)
        tell("the teacher's weights are memory-mapped from now on: training needs the memory")
    free = _free(memory)
    parts, most = 1, settings.batch_size // settings.accumulate
    while estimate.in_parts(parts).held > free and 2 * parts <= most:
        parts *= 2
    if parts > 1:
        tell(f"each batch is read in {parts * settings.accumulate} parts: memory")
    estimate = estimate.in_parts(parts)
    estimate.check(free, "make the largest student smaller, or lower batch_size")
    tell(estimate.line(free))
    return parts * settings.accumulate


def _free(memory: Callable[[], float | None]) -> float:
    found = memory()
    return math.inf if found is None else found


def training_estimate(
    prepared: Prepared, member: Architecture, rates: Rates, held: float
) -> Estimate:
    """Estimate building, healing, training and evaluating a student.

    `held` bytes of the calibration stay in memory.
    """
    teacher, settings = prepared.teacher, prepared.settings
    step = probe_training(prepared, member)
    weights = float(teacher.blueprint(member).skeleton().num_parameters())
    heal = _heal_seconds(teacher, member, rates) if member.healing == "sequential" else 0.0
    share = weights / teacher.model.num_parameters()
    judged = float(prepared.data.selected.lengths.sum()) * rates.token_s * share
    rungs = len(settings.rung_steps) if settings.steps else 1
    seconds = heal + settings.steps * step.step_s + rungs * judged
    detail = f"{member.num_hidden_layers}x{member.hidden_size} ffn {member.intermediate_size}, "
    detail += f"{weights / 1e6:,.0f}M weights, {settings.steps} steps"
    # weights, those of the best rung, gradients and the two moments of AdamW
    peak = held + weights * (20 if settings.steps else 4) + step.saved_bytes
    # bf16 copies of the weights are kept for the backward pass and do not shrink
    activations = max(0.0, step.saved_bytes - 2 * weights)
    return Estimate("largest student", peak, seconds, detail, held, activations)


def _heal_seconds(teacher: Teacher, member: Architecture, rates: Rates) -> float:
    """Return the time of sequential healing, a least-squares fit per output projection."""
    own, tokens = teacher.architecture, tokens_for(teacher.architecture.hidden_size)
    layers = member.num_hidden_layers + member.num_decoder_layers
    width, operations = float(own.hidden_size), 0.0
    for units in (
        float(member.num_attention_heads * member.head_dim),
        float(member.intermediate_size),
    ):
        fit = 2 * tokens * units * (units + 2 * width) + units**3 / 3 + 2 * units**2 * width
        from_moments = units**3 / 3 + 4 * units**2 * width if units < own.intermediate_size else 0
        operations += layers * (fit + from_moments)
    return operations * rates.multiply_s + tokens * rates.token_s


def largest(members: list[Architecture], teacher: Teacher) -> Architecture | None:
    """Return the student with the most weights, or None if the teacher is the only member."""
    students = [one for one in members if one != teacher.architecture]
    return max(students, key=_size, default=None)


def _size(one: Architecture) -> tuple[int, ...]:
    inner = one.intermediate_size + one.num_experts * one.moe_intermediate_size
    depth = one.num_hidden_layers + one.num_decoder_layers
    heads = one.num_attention_heads * one.head_dim
    return (depth * one.hidden_size * (2 * heads + 3 * inner), one.vocab_size)


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

    Two students of its widths with few layers are trained for a few steps.
    """
    teacher = prepared.teacher
    if not prepared.settings.steps:
        return TrainingProbe(0.0, 0.0)
    depths = [min(layers, member.num_hidden_layers) for layers in DEPTHS]
    first, second = (of_depth(member, layers, teacher) for layers in depths)
    one = probe(prepared, first)
    if first == second:
        return one
    times = (_depth(member) - _depth(first)) / (_depth(second) - _depth(first))
    return one.deeper(probe(prepared, second), times)


def _depth(architecture: Architecture) -> int:
    """Return the number of layers of both stacks."""
    return architecture.num_hidden_layers + architecture.num_decoder_layers


def of_depth(member: Architecture, layers: int, teacher: Teacher) -> Architecture:
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


def probe(prepared: Prepared, architecture: Architecture) -> TrainingProbe:
    """Train a student for a few steps and measure one."""
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
