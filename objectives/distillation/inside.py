"""Losses that look inside student and teacher: what they are, and how they listen to both."""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces import BadInput, Mismatch, ProtegeError, Student, Teacher, Unsupported
from protege.spaces.models.batches import real_tokens
from protege.spaces.students.config import layers_of


@runtime_checkable
class Inside(Protocol):
    """One term of what a student minimises, told from what runs through it and its teacher."""

    @property
    def weight(self) -> float:
        """What it counts in the sum of all terms."""

    def watch(self, student: Student, teacher: Teacher) -> "Watch":
        """Begin to listen to both; the student is on the device that it is trained on.

        Raises:
            BadInput: The student or the teacher has no such layer.
            Unsupported: The two cannot be compared position by position, or not there.
        """


class Watch(Protocol):
    """One student and its teacher, listened to for as long as a run lasts."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained along with the student; nothing of either model."""

    def loss(self, mask: Tensor) -> Tensor:
        """The loss of the last pass of both models, a scalar in fp32.

        Args:
            mask: 1 for real tokens, ``(sequences, tokens)``; it is not heeded where the states are
                not of these tokens. A decoder's mask is taken from what the student was given.

        Raises:
            Mismatch: The two did not read the same positions.
            ProtegeError: One of the two has not run since the last loss.
        """

    def close(self) -> None:
        """Listen no more."""


@dataclass(frozen=True)
class Match:
    """A layer of the student and the layer of the teacher that it is compared with.

    Attributes:
        stack: The stack of both.
        student: The student's layer.
        teacher: The teacher's.
    """

    stack: str
    student: int
    teacher: int


def matched(student: Student, teacher: Teacher, layers: Sequence[int] | None = None) -> list[Match]:
    """The student's layers, each with the layer that it comes from.

    A student whose weights were drawn comes from nowhere: its layers are compared with those that
    its layer policy names.

    Args:
        student: The student.
        teacher: Its teacher.
        layers: Those of each stack to match, negative ones counted from its end; all if not given.

    Raises:
        BadInput: A stack has no such layer.
    """
    found = []
    for stack in teacher.layout.depths.keys() & teacher.family.depths.keys():
        origins = student.kept.layers(stack)
        origins = origins or layers_of(teacher.layout, student.architecture, stack)
        chosen = range(len(origins)) if layers is None else layers
        numbers = [numbered(layer, len(origins), f"student's {stack}") for layer in chosen]
        found += [Match(stack, number, origins[number]) for number in numbers]
    return sorted(found, key=lambda match: (match.stack, match.student))


def numbered(layer: int, depth: int, what: str) -> int:
    """The number of a layer, which may be counted from the end.

    Raises:
        BadInput: There is no such layer.
    """
    if not -depth <= layer < depth:
        raise BadInput(
            f"layer {layer} of the {what} of {depth} layers: expected {-depth} to {depth - 1}; "
            "negative numbers count from the end, at every depth"
        )
    return layer % depth


class Pair:
    """A student and its teacher, listened to at the same places.

    What was heard is given out once, so that no pass is taken for another.

    Raises:
        Unsupported: The student reads other tokens than its teacher.
    """

    def __init__(self, student: Student, teacher: Teacher) -> None:
        if student.kept.vocab is not None:
            raise Unsupported(
                "a student of fewer tokens than its teacher writes texts otherwise, so that their "
                "positions cannot be compared; leave out losses that look inside, or the cut tokens"
            )
        self._student = _Listener("student", student.model, learns=True)
        self._teacher = _Listener("teacher", teacher.model, learns=False)
        self._is_pair = bool(teacher.config.is_encoder_decoder)

    def listen(
        self,
        place: Hashable,
        student: nn.Module,
        teacher: nn.Module,
        within: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        """Hear what a module of each gives first in a pass.

        Args:
            place: What it is called.
            student: The student's module.
            teacher: The teacher's.
            within: What each is a part of and may run more than once in; itself if not given.
        """
        outer = within or (student, teacher)
        self._student.listen(place, student, outer[0])
        self._teacher.listen(place, teacher, outer[1])

    def heard(self, place: Hashable) -> tuple[Tensor, Tensor]:
        """What student and teacher gave there, in fp32; through the first run gradients.

        Returns:
            Two of ``(sequences, tokens, width)``.

        Raises:
            Mismatch: They are not of the same positions.
            ProtegeError: One of the two has not run.
        """
        mine = self._student.taken(place).float()
        # a copy, for tensors of an inference pass cannot take part in a gradient
        theirs = self._teacher.taken(place).detach().to(mine.device, torch.float32, copy=True)
        if mine.shape[:2] != theirs.shape[:2]:
            raise Mismatch(
                f"the student read {tuple(mine.shape[:2])} sequences and tokens, the teacher "
                f"{tuple(theirs.shape[:2])}; run both on the same batch before each loss"
            )
        return mine, theirs

    def real(self, stack: str, states: Tensor, mask: Tensor) -> Tensor:
        """Which positions of a stack's states are real tokens, ``(sequences, tokens)``."""
        shape = states.shape[:2]
        found = mask.to(states.device) == 1 if mask.shape == shape else None
        if self._is_pair and stack == "decoder":
            found = real_tokens(self._student.given, shape, in_decoder=True)
        return found if found is not None else torch.ones_like(states[..., 0], dtype=torch.bool)

    def close(self) -> None:
        """Listen no more, and forget what was heard."""
        self._student.close()
        self._teacher.close()


class _Listener:
    """The outputs of some modules of one model, until they are taken.

    Passes without gradients in which a student is judged are not listened to.
    """

    def __init__(self, name: str, model: PreTrainedModel, *, learns: bool) -> None:
        self.given: Mapping[str, Tensor] = {}
        self._name = name
        self._learns = learns
        self._heard: dict[Hashable, Tensor] = {}
        self._handles = ExitStack()

        # closures, for a model that is copied copies the objects that methods belong to
        def remember(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
            self.given = {name: one for name, one in kwargs.items() if isinstance(one, Tensor)}

        self._add(model.register_forward_pre_hook(remember, with_kwargs=True))

    def listen(self, place: Hashable, module: nn.Module, within: nn.Module) -> None:
        """Hear what the module gives first in a pass of what it is in."""

        def begin(*_: Any) -> None:
            self._heard.pop(place, None)

        def hear(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled() or not self._learns:
                self._heard.setdefault(place, output if isinstance(output, Tensor) else output[0])

        self._add(within.register_forward_pre_hook(begin))
        self._add(module.register_forward_hook(hear))

    def taken(self, place: Hashable) -> Tensor:
        """What was heard there, given out once."""
        if place not in self._heard:
            raise ProtegeError(
                f"the {self._name} has not run since the last loss; run student and teacher on a "
                "batch before each loss that looks inside, the student with gradients"
            )
        return self._heard.pop(place)

    def close(self) -> None:
        self._handles.close()
        self._heard.clear()
        self.given = {}

    def _add(self, handle: torch.utils.hooks.RemovableHandle) -> None:
        self._handles.callback(handle.remove)
