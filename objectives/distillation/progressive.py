"""Progressive distillation: a student starts deeper and drops layers during training."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.machine.stopwatch import Stopwatch
from protege.spaces import (
    Architecture,
    BadInput,
    Calibration,
    Infeasible,
    Selection,
    Student,
    Teacher,
)
from protege.spaces.architecture.policies import LayerPolicy
from protege.spaces.architecture.sizes import nearest
from protege.spaces.arguments import checks_fields
from protege.spaces.calibration.layers import skipping
from protege.spaces.models.layout import Layout
from protege.spaces.models.tensors import TensorSpec
from protege.spaces.students.selection import LayerSelection, choose, pinned


@checks_fields
@dataclass(frozen=True)
class Progressive:
    """A schedule that drops layers of a student during training.

    Layers of a trained model can be dropped with little loss if the rest is trained further (Sajjad
    et al., arXiv 2004.03844), and several small cuts with training in between are better than one
    (SlimQwen, arXiv 2605.08738).

    Attributes:
        start: Initial depth as a fraction of the teacher's; at least the student's own depth.
        until: Fraction of the steps after which the last layer is dropped.
    """

    start: float = 1.0
    until: float = 0.5

    def __post_init__(self) -> None:
        for name in ("start", "until"):
            given = getattr(self, name)
            if not isinstance(given, int | float) or not 0 < given <= 1:
                raise BadInput(f"{name}={given!r}: expected a share above 0 and at most 1")

    def gone(self, drops: int, step: int, steps: int) -> int:
        """Count the layers dropped after a step, at even intervals.

        Args:
            drops: Layers to drop in total.
            step: Steps done.
            steps: Steps in total.
        """
        # fractions avoid float rounding: 0.7 of 10 steps is exactly 7
        span = Fraction(self.until).limit_denominator(10_000) * steps
        return drops if step >= span else int(drops * step / span)


def shrinking(
    teacher: Teacher,
    own: Architecture,
    known: Calibration | None,
    progressive: Progressive,
    stopwatch: Stopwatch,
) -> "Shrinking | None":
    """Build a student deeper than its architecture, or return None if there is no layer to drop.

    Each stack has the final student's layers, and those others that the layer policy drops last. A
    layer is dropped at the largest depth at which the policy does not keep it; if the policy's
    choices are nested, every intermediate student is the policy's own choice. Of equal layers the
    upper one is dropped first. If a stack's first layer holds a tensor that all layers share, as in
    T5, the final student's first layer is also the deep student's first.

    Args:
        teacher: The teacher.
        own: The final architecture.
        known: The calibration, or None if the architecture's policies need no data.
        progressive: The schedule.
        stopwatch: Records the seconds of cutting and healing.

    Raises:
        BadInput: See `Teacher.student`.
        Infeasible: See `Teacher.student`.
    """
    own = own.resolved(known)
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
        kept = with_layers(teacher, final, last.kept, going, known)
    with stopwatch.phase("build" if own.healing == "none" else "weight reconstruction"):
        student = teacher.student_of(pinned(final, kept), kept, known)

    def blank() -> Student:
        plain = replace(pinned(final, last.kept), healing="none")
        return replace(teacher.student_of(plain, last.kept, known), architecture=final)

    return Shrinking(student, teacher, last.kept, going, progressive, blank)


@dataclass(eq=False)
class Shrinking:
    """A deep student whose layers are dropped during training.

    A dropped layer is bypassed: its output is its input, it costs nothing, and its parameters get
    no gradient. It stays in the module, so that the optimiser's parameters never change.

    Attributes:
        student: The deep student to train.
        teacher: Its teacher.
        kept: The units and layers of the final student.
        going: The teacher's layers to drop, in order, by stack.
        progressive: The schedule.
        blank: Builds a final student, whose weights are then overwritten.
    """

    student: Student
    teacher: Teacher
    kept: Selection
    going: Mapping[str, tuple[int, ...]]
    progressive: Progressive
    blank: Callable[[], Student]

    def advance(self, step: int, steps: int) -> None:
        """Bypass the layers due by now; call it before every step.

        Args:
            step: Steps done.
            steps: Steps in total.
        """
        for stack, layers in self.going.items():
            at = self.student.kept.layers(stack)
            for number in layers[: self.progressive.gone(len(layers), step, steps)]:
                self._stacks[stack].bypass(at.index(number))

    def finish(self) -> Student:
        """Build the final student from the current weights.

        It computes what the deep student computes with all of `going` bypassed. Its tensors are
        copies, so training of the deep student can continue.
        """
        student = self.blank()
        for mine, theirs in self._shared(student):
            mine.copy_(theirs)
        return student

    def begin_from(self, student: Student) -> None:
        """Give the deep student the weights of a final student, in all that it keeps."""
        for mine, theirs in self._shared(student):
            theirs.copy_(mine)

    def _shared(self, student: Student) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each tensor of a final student with the deep student's."""
        tensors, deep = student.model.state_dict(), self.student.model.state_dict()
        for slot in Layout.of(self.teacher.family, student.model).slots:
            yield tensors[slot.name], deep[self._deep_name(slot)]
        mine, theirs = _projection(student), _projection(self.student)
        if mine is not None and theirs is not None:
            own, others = mine.state_dict(), theirs.state_dict()
            yield from ((own[name], others[name]) for name in own)

    def _deep_name(self, slot: TensorSpec) -> str:
        """Return the deep student's name of a tensor of the final student."""
        if slot.layer is None or slot.number_at == (0, 0):
            return slot.name
        number = self.kept.layers(slot.stack)[slot.layer]
        return slot.named(self.student.kept.layers(slot.stack).index(number))

    @cached_property
    def _stacks(self) -> dict[str, "_Stack"]:
        model = self.student.model
        deep = Layout.of(self.teacher.family, model).layers(model)
        return {stack: _Stack(deep[stack]) for stack in self.going}


class _Stack:
    """The layers of a stack, some of which are bypassed.

    A bypassed layer repeats the extra outputs of the layer before it, such as T5's position bias.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._has_run = False
        self._output: tuple[Any, ...] | None = None  # extra outputs; None if layers return a tensor
        for layer in layers:
            layer.register_forward_hook(self._record)

    def bypass(self, position: int) -> None:
        """Make the layer at a position return its input from now on."""
        layer: Any = self._layers[position]
        layer.forward = partial(self._skip, layer)

    def _record(self, _layer: nn.Module, _given: Any, output: Any) -> None:
        self._has_run = True
        self._output = (None, *output[1:]) if isinstance(output, tuple) else None

    def _skip(self, layer: nn.Module, *given: Any, **named: Any) -> Any:
        if not self._has_run:  # run one layer to learn the structure of the output
            forward: Callable[..., Any] = type(layer).forward
            with torch.no_grad():
                self._record(layer, given, forward(layer, *given, **named))
        return skipping(self._output)(*given, **named)


def _going(
    layout: Layout, policy: LayerPolicy, stack: str, stay: tuple[int, ...], start: float
) -> tuple[int, ...]:
    """Return the layers of a stack that only the deep student has, in the order of dropping.

    Args:
        layout: The teacher's layout.
        policy: The resolved layer policy.
        stack: The stack.
        stay: The final student's layers of the stack.
        start: Initial depth as a fraction of the teacher's.
    """
    total = layout.depths[stack]
    turns = dict.fromkeys(set(range(total)) - set(stay), len(stay))
    for depth in range(len(stay), total):
        for number in turns.keys() - set(_choice(policy, total, depth, stack)):
            turns[number] = depth
    if first_holds_more(layout, stack):
        turns = {number: turn for number, turn in turns.items() if number > stay[0]}
    count = max(0, nearest(total, start) - len(stay))
    longest = sorted(turns, key=lambda number: (turns[number], number))[:count]
    return tuple(reversed(longest))


def _choice(policy: LayerPolicy, total: int, depth: int, stack: str) -> Iterable[int]:
    """Return the layers that a policy keeps at a depth; all if it cannot keep that many."""
    try:
        return policy.layers(total, depth, stack)
    except Infeasible:
        return range(total)


def first_holds_more(layout: Layout, stack: str) -> bool:
    """Return whether the first layer of a stack holds a tensor that all its layers share."""
    inside = next(s for s in layout.slots if (s.stack, s.layer) == (stack, 0))
    place = f"{inside.name[: inside.number_at[1]]}."
    return any(slot.layer is None and slot.name.startswith(place) for slot in layout.slots)


def with_layers(
    teacher: Teacher,
    final: Architecture,
    kept: Selection,
    going: Mapping[str, tuple[int, ...]],
    calibration: Calibration | None,
) -> Selection:
    """Return the deep student's selection: the final one's, plus the policy's for other layers.

    Args:
        teacher: The teacher.
        final: The final architecture, whose width policy selects units of the other layers.
        kept: The final student's units and layers.
        going: The other layers, by stack.
        calibration: The calibration that the width policy needs, or None.
    """
    own = teacher.architecture
    whole: dict[str, Any] = {size: getattr(own, size) for size in teacher.family.depths.values()}
    ranked = teacher.magnitudes if final.width_policy.needs_weights else calibration
    every = choose(teacher.layout, replace(final, **whole), ranked, kept.vocab)
    stacks = dict(kept.stacks)
    for stack, numbers in going.items():
        stay = kept.stacks[stack]
        shared = {unit: stay[0].units[unit] for unit in teacher.family.shared}
        more = [every.stacks[stack][number] for number in numbers]
        extra = [LayerSelection(layer.number, {**layer.units, **shared}) for layer in more]
        stacks[stack] = tuple(sorted((*stay, *extra), key=lambda layer: layer.number))
    return replace(kept, stacks=stacks)


def _projection(student: Student) -> nn.Linear | None:
    """Return the output projection of a sentence encoder, or None."""
    return None if student.embedder is None else student.embedder.projection
