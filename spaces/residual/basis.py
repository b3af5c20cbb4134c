"""The map from the teacher's residual stream to the student's."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Basis:
    """The student's channels in terms of the teacher's: a subset, or a rotation.

    Attributes:
        width: The teacher's hidden size.
        channels: The kept channels; None for a rotation.
        turn: The rotation, ``(teacher's width, student's width)``, with orthonormal columns; None
            for a subset.
    """

    width: int
    channels: tuple[int, ...] | None = None
    turn: Tensor | None = None

    @cached_property
    def matrix(self) -> Tensor:
        """The map as a matrix ``(teacher's width, student's width)`` with orthonormal columns."""
        return torch.eye(self.width)[:, self._index] if self.turn is None else self.turn

    @property
    def is_same(self) -> bool:
        """Whether all of the teacher's channels are kept."""
        return self.channels == tuple(range(self.width))

    @property
    def is_narrower(self) -> bool:
        """Whether the student has fewer channels than its teacher."""
        kept = len(self.channels or ()) if self.turn is None else self.turn.shape[1]
        return kept < self.width

    def project(self, vectors: Tensor) -> Tensor:
        """Map vectors of the teacher's stream, ``(…, teacher's width)``, to the student's."""
        if self.turn is not None:
            return vectors @ self.turn
        return vectors.index_select(-1, self._index) if not self.is_same else vectors

    @cached_property
    def _index(self) -> Tensor:
        return torch.tensor(self.channels)
