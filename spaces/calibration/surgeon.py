"""Optimal Brain Surgeon ranking of feed-forward neurons."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from protege.spaces.models.activations import columns, shapes
from protege.spaces.models.layout import LaidOutModel, Place
from protege.spaces.remaining import Remaining
from protege.spaces.residual.least_squares import PRIOR

STEPS = 96
"""Number of removal steps; after each one the remaining neurons are refitted."""


def removal_orders(
    teacher: LaidOutModel,
    found: Mapping[str, Tensor],
    metrics: Mapping[Place, Tensor] = MappingProxyType({}),
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Rank the neurons of every feed-forward network by the second moments found.

    An output error counts as by the metric of its place in ``metrics`` (see `output_metrics`); all
    directions count alike at places without one.

    Returns:
        ``decoder.ffn.surgeon``, ``(layers, ffn)``, for each stack with second moments.
    """
    ranks: dict[str, Tensor] = {}
    remaining, done = Remaining(announce, "ranking FFN neurons"), 0
    total = sum(layers for n, (layers, _) in shapes(teacher).items() if f"{n}.gram" in found)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        name, layer = f"{slot.stack}.{unit}", slot.layer or 0
        if unit != "ffn" or f"{name}.gram" not in found:
            continue
        gram, mean = found[f"{name}.gram"][layer], found[f"{name}.mean"][layer]
        if getattr(module, "bias", None) is not None:  # the bias corrects the mean
            gram = gram - torch.outer(mean, mean)
        weight, metric = columns(module), metrics.get((name, layer))
        if metric is not None:
            weight = metric @ weight
        own = removal_ranks(gram, weight, float(found["tokens"]))
        depth = teacher.layout.depths[slot.stack]
        ranks.setdefault(f"{name}.surgeon", torch.zeros(depth, len(own)))[layer] = own
        done += 1
        remaining.at(done / total)
    return ranks


def removal_ranks(gram: Tensor, weight: Tensor, tokens: float) -> Tensor:
    """Rank neurons by the order of their removal; the most important rank highest.

    Optimal Brain Surgeon for whole columns (ZipLM, arXiv 2302.04089): each step removes the neurons
    with the least output error after the others are refitted, ``|W_j|^2 / (H^-1)_jj`` with H the
    second moment, `shrunk`, and then refits the rest. One order serves every width, so the neurons
    of a narrower student are a subset of a wider student's.

    Args:
        gram: Second moment of the projection's inputs, ``(neurons, neurons)``.
        weight: The projection's weight, ``(outputs, neurons)``, in any metric of the outputs.
        tokens: Number of tokens that the moment averages over.

    Returns:
        The ranks, ``(neurons,)``.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(shrunk(gram.double(), tokens)))
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


def shrunk(gram: Tensor, tokens: float) -> Tensor:
    """Raise a second moment's diagonal, so that neurons on few tokens look less alike.

    Each neuron gets `PRIOR` tokens of its own energy. Gated networks have neurons whose energy is
    many times the mean: equal damping would hide what tells the others apart.
    """
    own = gram.diagonal()
    found = gram.clone()
    found.diagonal().add_(PRIOR / tokens * (own + 1e-4 * own.mean()) + 1e-6 * own.mean())
    return found
