"""How the teacher's residual stream becomes a narrower one: some channels, or a turn of it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Basis:
    """The student's channels in terms of the teacher's: some of those, or a turn of all of them.

    Attributes:
        width: The teacher's.
        channels: The teacher's channels that are kept as they are; none where they are turned.
        turn: ``(teacher's, student's)``, of orthonormal columns, where they are turned.
    """

    width: int
    channels: tuple[int, ...] | None = None
    turn: Tensor | None = None

    @cached_property
    def matrix(self) -> Tensor:
        """``(teacher's, student's)``, of orthonormal columns."""
        return torch.eye(self.width)[:, self._index] if self.turn is None else self.turn

    @property
    def is_same(self) -> bool:
        """Whether every channel is the teacher's own, in its place."""
        return self.channels == tuple(range(self.width))

    @property
    def is_narrower(self) -> bool:
        """Whether the student has fewer channels than its teacher."""
        kept = len(self.channels or ()) if self.turn is None else self.turn.shape[1]
        return kept < self.width

    def project(self, vectors: Tensor) -> Tensor:
        """Vectors of the teacher's stream, ``(…, teacher's)``, as the student has them."""
        if self.turn is not None:
            return vectors @ self.turn
        return vectors.index_select(-1, self._index) if not self.is_same else vectors

    @cached_property
    def _index(self) -> Tensor:
        return torch.tensor(self.channels)
