"""In which order units are best removed, the others making up for each of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protege.spaces.listening import columns
from protege.spaces.regression import damped

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher

STEPS = 96
"""Removals that an order is worked out in: at each, what is left makes up for what went."""


def removal_orders(
    teacher: "Teacher",
    found: Mapping[str, Tensor],
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """The ranks of the neurons of every feed-forward, ``decoder.ffn.surgeon``, ``(layers, ffn)``.

    A stack whose second moments were too large to collect has none.

    Args:
        teacher: The teacher.
        found: Second moments, as `Calibration` names them.
        announce: Told how far it is.
    """
    ranks: dict[str, Tensor] = {}
    for module, slot, unit in teacher.layout.reading(teacher.model):
        name, layer = f"{slot.stack}.{unit}", slot.layer or 0
        if unit != "ffn" or f"{name}.gram" not in found:
            continue
        gram, mean = found[f"{name}.gram"][layer], found[f"{name}.mean"][layer]
        if getattr(module, "bias", None) is not None:  # it makes up for means by itself
            gram = gram - torch.outer(mean, mean)
        own = removal_ranks(gram, columns(module), 1, float(found["tokens"]))
        depth = teacher.layout.depths[slot.stack]
        ranks.setdefault(f"{name}.surgeon", torch.zeros(depth, len(own)))[layer] = own
        announce(f"order of neurons {layer + 1}/{depth}")
    return ranks


def removal_ranks(gram: Tensor, weight: Tensor, size: int, tokens: float) -> Tensor:
    """How late each unit is removed, ``(units,)``: the last one, which matters most, ranks highest.

    Optimal Brain Surgeon for whole columns (ZipLM, arXiv 2302.04089): of all units the one goes
    whose removal costs the projection's output least once the others are refitted to make up for
    it, ``tr(W_u (H^-1_uu)^-1 W_u^T)`` with H the damped second moment; then the rest are refitted.
    One order serves every width: the units of a narrower student are among those of a wider one.

    Args:
        gram: Second moment of what the projection reads, ``(units * size, units * size)``.
        weight: ``(outputs, units * size)``.
        size: Channels of a unit: 1 of a neuron, ``head_dim`` of a head.
        tokens: How many the moment is the mean over.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(gram.double(), tokens)))
    weight = weight.double()
    units = len(gram) // size
    left, ranks = torch.arange(units), torch.zeros(units)
    at_once = max(1, units // STEPS)
    for rank in range(0, units, at_once):
        costs = _costs(inverse, weight, size)
        going = costs.topk(min(at_once, len(left)), largest=False).indices
        ranks[left[going]] = rank + torch.arange(len(going), dtype=ranks.dtype)
        staying = torch.ones(len(left), dtype=torch.bool)
        staying[going] = False
        gone, kept = _channels(going, size), _channels(staying.nonzero().flatten(), size)
        across = inverse[gone][:, kept]
        share = torch.linalg.solve(inverse[gone][:, gone], across)
        weight = weight[:, kept] - weight[:, gone] @ share
        inverse = inverse[kept][:, kept].addmm_(across.T, share, alpha=-1)
        left = left[staying]
    return ranks


def _costs(inverse: Tensor, weight: Tensor, size: int) -> Tensor:
    """What removing each unit alone adds to the squared error of the output."""
    if size == 1:
        return weight.square().sum(0) / inverse.diagonal()
    by_unit = weight.unflatten(1, (-1, size)).transpose(0, 1)
    own = inverse.unflatten(0, (-1, size)).unflatten(2, (-1, size)).diagonal(dim1=0, dim2=2)
    solved = torch.linalg.solve(own.permute(2, 0, 1), by_unit.mT)
    costs: Tensor = (by_unit.mT * solved).sum((1, 2))
    return costs


def _channels(units: Tensor, size: int) -> Tensor:
    return (units[:, None] * size + torch.arange(size)).flatten()
