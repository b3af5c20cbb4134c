"""Progressive distillation: a student that starts deeper and drops layers while it learns."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from protege.objectives.stopwatch import Stopwatch
from protege.spaces import Architecture, BadInput, Calibration, Infeasible, Kept, Student, Teacher
from protege.spaces.architecture.architecture import nearest
from protege.spaces.architecture.policies import LayerPolicy
from protege.spaces.calibration.importance import layers_by_stack
from protege.spaces.calibration.layers import skipping
from protege.spaces.models.layout import Layout, Slot
from protege.spaces.students.selection import KeptLayer, choose, pinned


@dataclass(frozen=True)
class Progressive:
    """A schedule by which a student loses layers while it is trained.

    Layers of a trained model can go with little loss where the rest is trained on (Sajjad et al.,
    arXiv 2004.03844), and several small cuts with training in between end better than a single one
    (SlimQwen, arXiv 2605.08738).

    Attributes:
        start: Share of the teacher's depth to start from; never fewer layers than the student's.
        until: Share of the steps by which the last layer has gone.
    """

    start: float = 1.0
    until: float = 0.5

    def __post_init__(self) -> None:
        for name in ("start", "until"):
            given = getattr(self, name)
            if not isinstance(given, int | float) or not 0 < given <= 1:
                raise BadInput(f"{name}={given!r}: expected a share above 0 and at most 1")

    def gone(self, drops: int, step: int, steps: int) -> int:
        """How many of so many layers have gone, evenly spaced, after a step.

        Args:
            drops: Layers that go in all.
            step: Steps done; 0 before the first.
            steps: In all.
        """
        # exact arithmetic: at 0.7 of 10 steps the last one has gone, whatever binary floats say
        span = Fraction(self.until).limit_denominator(10_000) * steps
        return drops if step >= span else int(drops * step / span)


def shrinking(
    teacher: Teacher,
    own: Architecture,
    known: Calibration | None,
    progressive: Progressive,
    stopwatch: Stopwatch,
) -> "Shrinking | None":
    """Make a student deeper than its architecture, or return None if there is no layer to drop.

    Of each stack it has the layers of the student and the others that the same policy gives up
    last. A layer's turn is the largest depth at which the policy does not keep it, which at every
    depth is the policy's own choice where its choices are nested, as ladders are; of equals the
    upper one goes first. Where a stack's first layer holds what all of them read, as T5's does, no
    layer comes before the student's own first one.

    Args:
        teacher: The teacher.
        own: What the student is to become.
        known: The calibration, where the architecture's policies look at data.
        progressive: The schedule.
        stopwatch: Books the seconds of cutting and healing.

    Raises:
        BadInput: As `Teacher.student`.
        Infeasible: As `Teacher.student`.
    """
    with stopwatch.phase("build"):
        last = teacher.student(replace(own, healing="none"), known)
        policy = last.architecture.layer_policy
        going = {
            stack: _going(teacher.layout, policy, stack, last.kept.layers(stack), progressive.start)
            for stack in teacher.family.depths
            if stack in last.kept.stacks
        }
        if not any(going.values()):
            return None
        final = replace(last.architecture, healing=own.healing)
        kept = _with_layers(teacher, final, last.kept, going, known)
    with stopwatch.phase("build" if own.healing == "none" else "heal"):
        student = teacher.student_of(pinned(final, kept), kept, known)
    return Shrinking(student, teacher, final, last.kept, going, progressive, known)


@dataclass(eq=False)
class Shrinking:
    """A student on its way down to its size.

    A layer that has gone is passed by: it costs nothing, its parameters get no gradient, and its
    output is its input. It stays in the module all the same, so that an optimiser's parameters are
    the same ones from the first step to the last.

    Attributes:
        student: The deep one, to train.
        teacher: Its teacher.
        architecture: What it is to become.
        kept: What it will keep of the teacher.
        going: By stack, the teacher's layers that go, in the order in which they do.
        progressive: The schedule.
        calibration: What is known of the teacher's units.
    """

    student: Student
    teacher: Teacher
    architecture: Architecture
    kept: Kept
    going: Mapping[str, tuple[int, ...]]
    progressive: Progressive
    calibration: Calibration | None = None

    def advance(self, step: int, steps: int) -> None:
        """Pass by the layers whose turn has come; called before every step.

        Args:
            step: Steps done; 0 before the first.
            steps: In all.
        """
        for stack, layers in self.going.items():
            at = self.student.kept.layers(stack)
            for number in layers[: self.progressive.gone(len(layers), step, steps)]:
                self._stacks[stack].pass_by(at.index(number))

    def finish(self) -> Student:
        """A student of the final architecture that holds what is trained by now.

        It answers as the deep one does without the layers that go, whether they have gone or not.
        Every tensor is a copy: the deep one can be trained on.
        """
        plain = replace(pinned(self.architecture, self.kept), healing="none")
        made = self.teacher.student_of(plain, self.kept, self.calibration)
        student = replace(made, architecture=self.architecture)
        deep = self.student.model.state_dict()
        layout = Layout.of(self.teacher.family, student.model)
        tensors = student.model.state_dict()
        for slot in layout.slots:
            tensors[slot.name].copy_(deep[self._deep_name(slot)])
        mine, theirs = _projection(student), _projection(self.student)
        if mine is not None and theirs is not None:
            mine.load_state_dict(theirs.state_dict())
        return student

    def _deep_name(self, slot: Slot) -> str:
        """What the deep student calls a tensor of the final one."""
        if slot.layer is None or slot.number_at == (0, 0):
            return slot.name
        number = self.kept.layers(slot.stack)[slot.layer]
        return slot.named(self.student.kept.layers(slot.stack).index(number))

    @cached_property
    def _stacks(self) -> dict[str, "_Stack"]:
        deep = layers_by_stack(replace(self.teacher, model=self.student.model))
        return {stack: _Stack(deep[stack]) for stack in self.going}


class _Stack:
    """A stack's layers, some of which are passed by.

    What a layer puts out beside its states is what the one before it did: T5 hands the distances
    between tokens along there.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._has_run = False
        self._output: tuple[Any, ...] | None = None  # without the states; none of a bare tensor
        for layer in layers:
            layer.register_forward_hook(self._ran)

    def pass_by(self, position: int) -> None:
        """Have the layer at a position give back its input from now on."""
        layer: Any = self._layers[position]
        layer.forward = partial(self._passed, layer)

    def _ran(self, _layer: nn.Module, _given: Any, output: Any) -> None:
        self._has_run = True
        self._output = (None, *output[1:]) if isinstance(output, tuple) else None

    def _passed(self, layer: nn.Module, *given: Any, **named: Any) -> Any:
        if not self._has_run:  # what its layers put out shows once one has run
            forward: Callable[..., Any] = type(layer).forward
            with torch.no_grad():
                self._ran(layer, given, forward(layer, *given, **named))
        return skipping(self._output)(*given, **named)


def _going(
    layout: Layout, policy: LayerPolicy, stack: str, stay: tuple[int, ...], start: float
) -> tuple[int, ...]:
    """The layers of a stack that the deep student has and the final one has not, first to go first.

    Args:
        layout: The teacher's.
        policy: Which layers are kept at each depth; resolved.
        stack: The stack.
        stay: The layers of it that stay.
        start: Share of the teacher's depth to start from.
    """
    total = layout.depths[stack]
    turns = dict.fromkeys(set(range(total)) - set(stay), len(stay))
    for depth in range(len(stay), total):
        for number in turns.keys() - set(_choice(policy, total, depth, stack)):
            turns[number] = depth
    if _first_holds_more(layout, stack):
        turns = {number: turn for number, turn in turns.items() if number > stay[0]}
    count = max(0, nearest(total, start) - len(stay))
    longest = sorted(turns, key=lambda number: (turns[number], number))[:count]
    return tuple(reversed(longest))


def _choice(policy: LayerPolicy, total: int, depth: int, stack: str) -> Iterable[int]:
    """The layers that a policy keeps at a depth; all where it has no choice of so many."""
    try:
        return policy.layers(total, depth, stack)
    except Infeasible:
        return range(total)


def _first_holds_more(layout: Layout, stack: str) -> bool:
    """Whether the first layer of a stack holds a tensor that is of the stack as a whole."""
    inside = next(s for s in layout.slots if (s.stack, s.layer) == (stack, 0))
    place = f"{inside.name[: inside.number_at[1]]}."
    return any(slot.layer is None and slot.name.startswith(place) for slot in layout.slots)


def _with_layers(
    teacher: Teacher,
    final: Architecture,
    kept: Kept,
    going: Mapping[str, tuple[int, ...]],
    calibration: Calibration | None,
) -> Kept:
    """What the deep student keeps: the final one's units, and of layers that go the policy's."""
    own = teacher.architecture
    whole: dict[str, Any] = {size: getattr(own, size) for size in teacher.family.depths.values()}
    ranked = teacher.magnitudes if final.width_policy.needs_weights else calibration
    every = choose(teacher.layout, replace(final, **whole), ranked, kept.vocab)
    stacks = dict(kept.stacks)
    for stack, numbers in going.items():
        stay = kept.stacks[stack]
        shared = {unit: stay[0].units[unit] for unit in teacher.family.shared}
        more = [every.stacks[stack][number] for number in numbers]
        extra = [KeptLayer(layer.number, {**layer.units, **shared}) for layer in more]
        stacks[stack] = tuple(sorted((*stay, *extra), key=lambda layer: layer.number))
    return replace(kept, stacks=stacks)


def _projection(student: Student) -> nn.Linear | None:
    """The last layer of a sentence encoder, where it has one."""
    return None if student.embedder is None else student.embedder.projection
