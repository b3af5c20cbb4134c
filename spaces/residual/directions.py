"""Principal directions of a residual stream, and maps from a teacher's stream to a student's."""

from collections.abc import Mapping
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


@dataclass(frozen=True, eq=False)
class Directions:
    """The principal directions of a teacher's residual stream.

    Attributes:
        vectors: Orthonormal columns, strongest first, ``(hidden, directions)``. For LayerNorm the
            direction of the mean is left out.
        energies: For each norm, the mean square of its normed input along each direction,
            ``(directions,)``.
        centred: Whether the norms subtract the mean (LayerNorm).
    """

    vectors: Tensor
    energies: Mapping[str, Tensor]
    centred: bool

    @classmethod
    def of(cls, states: Mapping[str, Tensor], *, centred: bool) -> "Directions":
        """Compute eigenvectors of the normed stream's second moment, summed over the norms.

        ``states`` has each norm's input, ``(tokens, hidden)``.
        """
        moments = {}
        for name, given in states.items():
            passed = normed(given, centred=centred)
            moments[name] = passed.T @ passed / len(passed)
        total = torch.stack(list(moments.values())).sum(0).double()
        if centred:  # make the direction of the mean the smallest, so that it comes last
            total = total - total.trace() / len(total)
        vectors = torch.linalg.eigh(total).eigenvectors.flip(1).float()
        if centred:
            vectors = vectors[:, :-1]
        energies = {n: ((m @ vectors) * vectors).sum(0) for n, m in moments.items()}
        return cls(vectors, energies, centred)

    def basis(self, width: int) -> Basis:
        """Return the basis of a student of that width from the strongest directions.

        With LayerNorm one dimension is the mean, so one direction fewer is kept.
        """
        turn = self.vectors[:, :width].contiguous()
        if self.centred:
            turn = self.vectors[:, : width - 1] @ _without_mean(width)
        return Basis(len(turn), turn=turn)

    def gain(self, norm: str, width: int) -> float:
        """Return the gain that restores a norm's output scale when it sees only kept directions."""
        kept = width - 1 if self.centred else width
        return float((self.energies[norm][:kept].sum() / width).sqrt())


def normed(states: Tensor, *, centred: bool) -> Tensor:
    """Normalise states as a norm does before its gains."""
    if centred:
        states = states - states.mean(1, keepdim=True)
    length: Tensor = states.square().mean(1, keepdim=True).sqrt()
    return states / length.clamp(min=1e-12)


def _without_mean(width: int) -> Tensor:
    """Return orthonormal rows whose entries sum to zero, ``(width - 1, width)``."""
    ones = torch.ones(width, 1, dtype=torch.float64)
    every = torch.cat([ones, torch.eye(width, width - 1, dtype=torch.float64)], dim=1)
    rows: Tensor = torch.linalg.qr(every).Q[:, 1:].T.float()
    return rows
