"""A loss on hidden states after matched layers of student and teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from protege.objectives.distillation.losses.hooked import (
    AttachedLoss,
    Match,
    PairedHooks,
    blocks_of,
    matched,
)
from protege.spaces import BadInput, Student, Teacher
from protege.spaces.models.layout import Layout
from protege.spaces.others.table import is_other


@dataclass(frozen=True)
class HiddenMSE:
    """Mean squared error of hidden states after matched layers, over real tokens.

    Follows FitNets (Romero et al., arXiv 1412.6550), applied to every layer as in TinyBERT (Jiao et
    al., arXiv 1909.10351, equation 8). Each layer's error is divided by the mean square of the
    teacher's states, so that all-zero states have an error of 1. Layers have equal weights.

    If the student is narrower, a learned matrix projects its states to the teacher's width. All
    layers of a stack share it, as in TinyBERT, since they write to one residual stream. It is
    initialised to the identity on the channels that the student keeps, or, if channels were rotated
    or randomly initialised, to a random matrix with orthonormal columns.

    Attributes:
        weight: Weight in the sum of all terms.
        layers: The student's layers to match in each stack; negative numbers count from the end.
            None matches all layers.
    """

    weight: float = 1.0
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.layers is not None and not self.layers:
            raise BadInput("layers=(): expected at least one layer, or None for all of them")

    def attach(self, student: Student, teacher: Teacher) -> AttachedLoss:
        return _AttachedHiddenMSE(student, teacher, matched(student, teacher, self.layers))


class _AttachedHiddenMSE:
    def __init__(self, student: Student, teacher: Teacher, matches: list[Match]) -> None:
        mine = _layers(student, teacher)
        theirs = teacher.layout.layers(teacher.model)
        self._matches = matches
        self._hooks = PairedHooks(student, teacher)
        for match in matches:
            own, other = mine[match.stack][match.student], theirs[match.stack][match.teacher]
            self._hooks.record(match, own, other)
        self._projections: dict[str, nn.Linear] = {}
        if student.architecture.hidden_size != teacher.architecture.hidden_size:
            stacks = dict.fromkeys(match.stack for match in matches)
            self._projections = {stack: _projection(student, teacher) for stack in stacks}

    def parameters(self) -> list[nn.Parameter]:
        return [one for linear in self._projections.values() for one in linear.parameters()]

    def loss(self, mask: Tensor) -> Tensor:
        return torch.stack([self._of(match, mask) for match in self._matches]).mean()

    def close(self) -> None:
        self._hooks.close()

    def _of(self, match: Match, mask: Tensor) -> Tensor:
        """Compute the relative error after one layer."""
        mine, theirs = self._hooks.outputs(match)
        # index_select of whole rows is faster than a boolean mask
        real = self._hooks.real(match.stack, mine, mask).flatten().nonzero().squeeze(1)
        mine, theirs = (states.flatten(0, 1).index_select(0, real) for states in (mine, theirs))
        if match.stack in self._projections:
            with torch.autocast(mine.device.type, enabled=False):
                mine = self._projections[match.stack](mine)
        tiny = torch.finfo(theirs.dtype).tiny  # a batch without real tokens has a loss of 0
        return (mine - theirs).square().sum() / theirs.square().sum().clamp(min=tiny)


def _layers(student: Student, teacher: Teacher) -> dict[str, list[nn.Module]]:
    """Return the student's layers in each stack of the teacher."""
    if is_other(student.architecture):
        return dict.fromkeys(teacher.layout.depths, blocks_of(student, teacher))
    return Layout.of(teacher.family, student.model).layers(student.model)


def _projection(student: Student, teacher: Teacher) -> nn.Linear:
    """Build the projection from the student's width to the teacher's."""
    narrow, wide = student.architecture.hidden_size, teacher.architecture.hidden_size
    projection: nn.Linear = skip_init(nn.Linear, narrow, wide, bias=False)
    kept = student.kept
    with torch.no_grad():
        if kept.turned or not kept.hidden:
            generator = torch.Generator().manual_seed(0)
            nn.init.orthogonal_(projection.weight, generator=generator)
        else:
            projection.weight.copy_(torch.eye(wide)[:, list(kept.hidden)])
    return projection.to(student.model.device)
