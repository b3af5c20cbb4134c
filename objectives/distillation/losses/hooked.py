"""The protocol of losses on intermediate tensors, and the forward hooks that record them."""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces import BadInput, Mismatch, ProtegeError, Student, Teacher, Unsupported
from protege.spaces.checkpoints.pooling import READ_PADDING
from protege.spaces.models.batches import real_tokens
from protege.spaces.others.table import is_other


@runtime_checkable
class HiddenLoss(Protocol):
    """A loss on intermediate tensors of student and teacher, such as hidden states."""

    @property
    def weight(self) -> float:
        """Weight in the sum of all terms."""

    def attach(self, student: Student, teacher: Teacher) -> "AttachedLoss":
        """Attach hooks to student and teacher.

        Raises:
            BadInput: The student or the teacher has no such layer.
            Unsupported: The two cannot be compared position by position, or not at this layer.
        """


class AttachedLoss(Protocol):
    """A loss whose hooks are attached to one student and its teacher."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the loss's own trainable parameters."""

    def loss(self, mask: Tensor) -> Tensor:
        """Compute the loss of the last forward pass of both models, a scalar in fp32.

        Args:
            mask: 1 for real tokens, ``(sequences, tokens)``; ignored for states of another shape.
                A decoder's mask is taken from the student's inputs.

        Raises:
            Mismatch: The two models read batches of different shapes.
            ProtegeError: A model has not run since the last loss.
        """

    def close(self) -> None:
        """Remove the hooks."""


@dataclass(frozen=True)
class Match:
    """A layer of the student and the teacher's layer to compare it with.

    Attributes:
        stack: The stack of both layers.
        student: Number of the student's layer.
        teacher: Number of the teacher's layer.
    """

    stack: str
    student: int
    teacher: int


def matched(student: Student, teacher: Teacher, layers: Sequence[int] | None = None) -> list[Match]:
    """Match the student's layers with the teacher's layers that they were copied from.

    Layers of a randomly initialised student are matched with those that its layer policy selects,
    and those of another family with the ones at the same relative depth.

    Args:
        student: The student.
        teacher: Its teacher.
        layers: Layers of each stack to match; negative numbers count from the end, None is all.

    Returns:
        The matches, sorted by stack and layer.

    Raises:
        BadInput: A stack has no such layer.
        Unsupported: The student is of another family that has no such states.
    """
    found = []
    for stack in teacher.layout.depths.keys() & teacher.family.depths.keys():
        if is_other(student.architecture):
            depth = teacher.layout.depths[stack]
            origins = at_equal_depth(len(blocks_of(student, teacher)), depth)
        else:
            kept = student.kept.layers(stack)
            origins = kept or teacher.layout.layers_of(student.architecture, stack)
        chosen = range(len(origins)) if layers is None else layers
        numbers = [numbered(layer, len(origins), f"student's {stack}") for layer in chosen]
        found += [Match(stack, number, origins[number]) for number in numbers]
    return sorted(found, key=lambda match: (match.stack, match.student))


def at_equal_depth(layers: int, of: int) -> tuple[int, ...]:
    """Return for each of some layers the one of another model at the same relative depth."""
    return tuple(max(0, round((number + 1) * of / layers) - 1) for number in range(layers))


def blocks_of(student: Student, teacher: Teacher) -> list[nn.Module]:
    """Return the layers of a student of another family, in order.

    Raises:
        Unsupported: It has no layers whose states are of tokens, as the teacher's are.
    """
    own = student.model.config.model_type
    lists = [one for one in student.model.modules() if isinstance(one, nn.ModuleList)]
    found = [*max(lists, key=len, default=[])]
    reads_tokens = bool(student.architecture.vocab_size)
    if not found or not reads_tokens or own in READ_PADDING or len(teacher.layout.depths) > 1:
        raise Unsupported(
            f"losses on hidden states of {own}: its states are not those of the teacher's tokens, "
            "one by one; leave the losses out, or the family"
        )
    return found


def numbered(layer: int, depth: int, what: str) -> int:
    """Resolve a layer number that may be negative.

    Raises:
        BadInput: There is no such layer.
    """
    if not -depth <= layer < depth:
        raise BadInput(
            f"layer {layer} of the {what} of {depth} layers: expected {-depth} to {depth - 1}; "
            "negative numbers count from the end, at every depth"
        )
    return layer % depth


class PairedHooks:
    """Forward hooks that record outputs at corresponding modules of student and teacher.

    Each recorded output can be read once, so that outputs of different passes are not mixed up.

    Raises:
        Unsupported: The student's vocabulary is cut.
    """

    def __init__(self, student: Student, teacher: Teacher) -> None:
        if student.kept.vocab is not None:
            raise Unsupported(
                "a student of fewer tokens than its teacher splits texts into other tokens, so "
                "that their positions cannot be compared; leave out losses on hidden states or "
                "attention, or keep the whole vocabulary"
            )
        self._student = _OutputRecorder("student", student.model, learns=True)
        self._teacher = _OutputRecorder("teacher", teacher.model, learns=False)
        self._is_pair = bool(teacher.config.is_encoder_decoder)

    def record(
        self,
        place: Hashable,
        student: nn.Module,
        teacher: nn.Module,
        within: tuple[nn.Module, nn.Module] | None = None,
    ) -> None:
        """Record the first output of a module of each model in every forward pass.

        Args:
            place: Key of the recorded outputs.
            student: The student's module.
            teacher: The teacher's module.
            within: Modules of student and teacher whose forward passes delimit a recording, for
                modules that run several times within them; default: the modules themselves.
        """
        outer = within or (student, teacher)
        self._student.record(place, student, outer[0])
        self._teacher.record(place, teacher, outer[1])

    def outputs(self, place: Hashable) -> tuple[Tensor, Tensor]:
        """Return the recorded outputs of student and teacher, and clear them.

        Returns:
            Two fp32 tensors, each ``(sequences, tokens, width)``; only the student's has gradients.

        Raises:
            Mismatch: The two differ in sequences or tokens.
            ProtegeError: A model has not run since the last call.
        """
        mine = self._student.pop(place).float()
        # a copy, since autograd cannot save inference tensors
        theirs = self._teacher.pop(place).detach().to(mine.device, torch.float32, copy=True)
        if mine.shape[:2] != theirs.shape[:2]:
            raise Mismatch(
                f"the student read {tuple(mine.shape[:2])} sequences and tokens, the teacher "
                f"{tuple(theirs.shape[:2])}; run both on the same batch before each loss"
            )
        return mine, theirs

    def real(self, stack: str, states: Tensor, mask: Tensor) -> Tensor:
        """Return which positions of a stack's states are real tokens, ``(sequences, tokens)``."""
        shape = states.shape[:2]
        found = mask.to(states.device) == 1 if mask.shape == shape else None
        if self._is_pair and stack == "decoder":
            found = real_tokens(self._student.given, shape, in_decoder=True)
        return found if found is not None else torch.ones_like(states[..., 0], dtype=torch.bool)

    def close(self) -> None:
        """Remove the hooks and drop the recorded outputs."""
        self._student.close()
        self._teacher.close()


class _OutputRecorder:
    """Recorded outputs of some modules of one model.

    Passes of a student without gradients, as in evaluation, are not recorded.
    """

    def __init__(self, name: str, model: PreTrainedModel, *, learns: bool) -> None:
        self.given: Mapping[str, Tensor] = {}
        self._name = name
        self._learns = learns
        self._outputs: dict[Hashable, Tensor] = {}
        self._handles = ExitStack()

        # closures, since deep-copying a model would copy the object of a bound method
        def keep_inputs(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
            self.given = {name: one for name, one in kwargs.items() if isinstance(one, Tensor)}

        self._add(model.register_forward_pre_hook(keep_inputs, with_kwargs=True))

    def record(self, place: Hashable, module: nn.Module, within: nn.Module) -> None:
        """Record the module's first output in each pass of ``within``."""

        def begin(*_: Any) -> None:
            self._outputs.pop(place, None)

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled() or not self._learns:
                self._outputs.setdefault(place, output if isinstance(output, Tensor) else output[0])

        self._add(within.register_forward_pre_hook(begin))
        self._add(module.register_forward_hook(keep))

    def pop(self, place: Hashable) -> Tensor:
        """Return and remove the recorded output.

        Raises:
            ProtegeError: There is none.
        """
        if place not in self._outputs:
            raise ProtegeError(
                f"the {self._name} has not run since the last loss; run student and teacher on a "
                "batch before each loss on hidden states or attention, the student with gradients"
            )
        return self._outputs.pop(place)

    def close(self) -> None:
        self._handles.close()
        self._outputs.clear()
        self.given = {}

    def _add(self, handle: torch.utils.hooks.RemovableHandle) -> None:
        self._handles.callback(handle.remove)
