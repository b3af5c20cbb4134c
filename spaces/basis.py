"""How the teacher's residual stream becomes a narrower one: some channels, or a turn of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Basis:
    """The student's channels in terms of the teacher's.

    Attributes:
        matrix: ``(teacher's, student's)``, of orthonormal columns.
        channels: The teacher's channels that the columns stand for; none where they are turned.
    """

    matrix: Tensor
    channels: tuple[int, ...] | None = None

    @classmethod
    def of_channels(cls, channels: Sequence[int], width: int) -> "Basis":
        """The basis that keeps some of the teacher's channels as they are."""
        matrix = torch.eye(width)[:, list(channels)]
        return cls(matrix, tuple(channels))

    @property
    def is_narrower(self) -> bool:
        """Whether the student has fewer channels than its teacher."""
        return self.matrix.shape[1] < self.matrix.shape[0]

    def project(self, vectors: Tensor) -> Tensor:
        """Vectors of the teacher's stream, ``(…, teacher's)``, as the student has them."""
        if self.channels is None:
            return vectors @ self.matrix
        return vectors.index_select(-1, self._index) if self.is_narrower else vectors

    @cached_property
    def _index(self) -> Tensor:
        return torch.tensor(self.channels)
