"""The principal directions of a residual stream."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from protege.spaces.residual.basis import Basis


@dataclass(frozen=True, eq=False)
class Directions:
    """The principal directions of a teacher's residual stream.

    Attributes:
        vectors: Orthonormal columns, the strongest first, ``(hidden, directions)``; all but the
            one that norms take the mean along, where they do.
        energies: By norm, the mean square of what it normed along each, ``(directions,)``.
        centred: Whether the norms subtract a mean (LayerNorm).
    """

    vectors: Tensor
    energies: Mapping[str, Tensor]
    centred: bool

    @classmethod
    def of(cls, states: Mapping[str, Tensor], *, centred: bool) -> "Directions":
        """Eigenvectors of the second moment of the normed stream, summed over the norms.

        Args:
            states: What each norm was given, ``(tokens, hidden)``.
            centred: Whether the norms subtract a mean.
        """
        moments = {}
        for name, given in states.items():
            passed = normed(given, centred=centred)
            moments[name] = passed.T @ passed / len(passed)
        total = torch.stack(list(moments.values())).sum(0).double()
        if centred:  # nothing is left in the direction of the mean: below all others, it comes last
            total = total - total.trace() / len(total)
        vectors = torch.linalg.eigh(total).eigenvectors.flip(1).float()
        if centred:
            vectors = vectors[:, :-1]
        energies = {n: ((m @ vectors) * vectors).sum(0) for n, m in moments.items()}
        return cls(vectors, energies, centred)

    def basis(self, width: int) -> Basis:
        """The strongest directions, as channels of a student of that width.

        Where norms take a mean, one of its channels' dimensions is what they take it along, and
        one direction less is kept.
        """
        turn = self.vectors[:, :width].contiguous()
        if self.centred:
            turn = self.vectors[:, : width - 1] @ _without_mean(width)
        return Basis(len(turn), turn=turn)

    def gain(self, norm: str, width: int) -> float:
        """What a norm over the kept directions alone is multiplied by to give what it gave."""
        kept = width - 1 if self.centred else width
        return float((self.energies[norm][:kept].sum() / width).sqrt())


def normed(states: Tensor, *, centred: bool) -> Tensor:
    """What a norm makes of its states before it multiplies them by anything."""
    if centred:
        states = states - states.mean(1, keepdim=True)
    length: Tensor = states.square().mean(1, keepdim=True).sqrt()
    return states / length.clamp(min=1e-12)


def _without_mean(width: int) -> Tensor:
    """Orthonormal rows whose entries sum to zero, ``(width - 1, width)``."""
    ones = torch.ones(width, 1, dtype=torch.float64)
    every = torch.cat([ones, torch.eye(width, width - 1, dtype=torch.float64)], dim=1)
    rows: Tensor = torch.linalg.qr(every).Q[:, 1:].T.float()
    return rows
