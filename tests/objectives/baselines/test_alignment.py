"""Vectors of another model are compared in the teacher's space."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from protege.objectives.baselines.alignment import alignment


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mapped(found: dict[str, Tensor], given: Tensor) -> Tensor:
    return given @ found["weight"].T + found["bias"]


def test_a_rotated_and_shifted_space_is_recovered() -> None:
    wanted = drawn(200, 8)
    turned, _ = torch.linalg.qr(drawn(8, 8, seed=1))
    given = wanted @ turned + 0.5
    assert float(cosine_similarity(given, wanted).mean()) < 0.5
    unseen = drawn(50, 8, seed=2)
    reached = cosine_similarity(mapped(alignment(given, wanted), unseen @ turned + 0.5), unseen)
    assert float(reached.mean()) > 0.999


def test_vectors_of_the_same_space_stay_as_they_are() -> None:
    wanted = drawn(60, 8)
    # a map fitted on 48 texts would add noise
    found = alignment(wanted + 0.01 * drawn(60, 8, seed=1), wanted)
    assert torch.equal(found["weight"], torch.eye(8))
    assert not bool(found["bias"].any())


def test_noise_is_not_learnt_by_heart() -> None:
    given, wanted = drawn(40, 24), 1 + drawn(40, 16, seed=1)  # all that is to be known is the mean
    unseen, mean = drawn(500, 24, seed=2), torch.ones(500, 16)
    ones = torch.ones(40, 1)
    exact = torch.linalg.lstsq(torch.cat([given, ones], 1), wanted).solution
    by_heart = torch.cat([unseen, torch.ones(500, 1)], 1) @ exact
    reached = mapped(alignment(given, wanted), unseen)
    assert float(cosine_similarity(by_heart, mean).mean()) < 0.8
    assert float(cosine_similarity(reached, mean).mean()) > 0.9


def test_a_single_text_is_enough_to_return_a_map() -> None:
    given, wanted = drawn(1, 4), drawn(1, 6, seed=1)
    assert torch.allclose(mapped(alignment(given, wanted), given), wanted, atol=1e-5)
