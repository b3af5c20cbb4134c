"""The linear map from a baseline's sentence vectors to its teacher's."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Strengths of the ridge to choose from, as shares of the mean energy of an input."""

JUDGED = 5
"""Every fifth text is left out of the fit and used to choose the ridge strength."""


def alignment(given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Fit the linear map that turns a baseline's vectors into the teacher's.

    Vectors of two models that were trained apart have nothing to do with each other: their cosine
    says nothing. The map is a ridge regression. Its strength is the one with the largest mean
    cosine on a fifth of the texts, on which it is not fitted. If the vectors are best there as they
    are, as those of another student of the same teacher, the map is the identity.

    Args:
        given: The baseline's vectors of the training texts, ``(texts, inputs)``.
        wanted: The teacher's, ``(texts, outputs)``.

    Returns:
        ``weight``, ``(outputs, inputs)``, and ``bias``, ``(outputs,)``.
    """
    given, wanted = given.double(), wanted.double()
    judged = torch.arange(len(given)) % JUDGED == 0
    if bool(judged.all()):
        judged = torch.zeros_like(judged)  # a single text
    seen = (given[~judged], wanted[~judged])
    judges = (given[judged], wanted[judged]) if bool(judged.any()) else seen

    def worth(weight: Tensor, bias: Tensor) -> float:
        return float(cosine_similarity(judges[0] @ weight.T + bias, judges[1]).mean())

    reached = {ridge: worth(*_ridge(*seen, ridge)) for ridge in RIDGES}
    best = max(reached, key=lambda ridge: reached[ridge])
    weight, bias = _ridge(given, wanted, best)
    if given.shape[1] == wanted.shape[1]:
        same = torch.eye(given.shape[1], dtype=torch.double), torch.zeros_like(bias)
        weight, bias = same if worth(*same) >= reached[best] else (weight, bias)
    return {"weight": weight.float(), "bias": bias.float()}


def _ridge(given: Tensor, wanted: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    middle, target = given.mean(0), wanted.mean(0)
    inputs, outputs = given - middle, wanted - target
    gram = inputs.T @ inputs
    energy = gram.diagonal().mean().clamp(min=1e-12)
    gram.diagonal().add_(ridge * energy)
    weight = torch.linalg.solve(gram, inputs.T @ outputs).T
    return weight, target - weight @ middle
