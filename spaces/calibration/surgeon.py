"""In which order neurons are best removed, the others making up for each of them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from protege.spaces.models.activations import columns, shapes
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.remaining import Remaining
from protege.spaces.residual.least_squares import damped

STEPS = 96
"""Removals that an order is worked out in: at each, what is left makes up for what went."""


def removal_orders(
    teacher: LaidOutModel,
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
    remaining, done = Remaining(announce, "order of neurons"), 0
    total = sum(layers for n, (layers, _) in shapes(teacher).items() if f"{n}.gram" in found)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        name, layer = f"{slot.stack}.{unit}", slot.layer or 0
        if unit != "ffn" or f"{name}.gram" not in found:
            continue
        gram, mean = found[f"{name}.gram"][layer], found[f"{name}.mean"][layer]
        if getattr(module, "bias", None) is not None:  # it makes up for means by itself
            gram = gram - torch.outer(mean, mean)
        own = removal_ranks(gram, columns(module), float(found["tokens"]))
        depth = teacher.layout.depths[slot.stack]
        ranks.setdefault(f"{name}.surgeon", torch.zeros(depth, len(own)))[layer] = own
        done += 1
        remaining.at(done / total)
    return ranks


def removal_ranks(gram: Tensor, weight: Tensor, tokens: float) -> Tensor:
    """How late each neuron is removed, ``(neurons,)``: the one that matters most ranks highest.

    Optimal Brain Surgeon for whole columns (ZipLM, arXiv 2302.04089): of all neurons the one goes
    whose removal costs the projection's output least once the others are refitted to make up for
    it, ``|W_j|^2 / (H^-1)_jj`` with H the damped second moment; then the rest are refitted. One
    order serves every width: the neurons of a narrower student are among those of a wider one.

    Args:
        gram: Second moment of what the projection reads, ``(neurons, neurons)``.
        weight: ``(outputs, neurons)``.
        tokens: How many the moment is the mean over.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(gram.double(), tokens)))
    weight = weight.double()
    left, ranks = torch.arange(len(gram)), torch.zeros(len(gram))
    at_once = max(1, len(gram) // STEPS)
    for rank in range(0, len(gram), at_once):
        costs = weight.square().sum(0) / inverse.diagonal()
        going = costs.topk(min(at_once, len(left)), largest=False).indices
        ranks[left[going]] = rank + torch.arange(len(going), dtype=ranks.dtype)
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[going] = False
        across = inverse[going][:, stays]
        share = torch.linalg.solve(inverse[going][:, going], across)
        weight = weight[:, stays] - weight[:, going] @ share
        inverse = inverse[stays][:, stays].addmm_(across.T, share, alpha=-1)
        left = left[stays]
    return ranks
