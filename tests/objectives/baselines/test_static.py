"""A static embedding is a table of the teacher's token vectors, made as Model2Vec makes it."""

import pytest
import torch

from protege.objectives import StaticEmbedding
from protege.spaces import BadInput, Blueprint, Cache
from protege.spaces.others.token_vectors import frequency_weights, principal, token_vectors
from tests.tiny import CASES, VOCABULARY, texts


def test_the_vector_of_a_text_is_the_mean_of_its_tokens(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    own = StaticEmbedding(dim=8).made(teacher, cache)
    module, table = own.embedder(), own.model.state_dict()["embedding.weight"]
    assert module is not None
    read = own.tokenizer(texts(4), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = module(**read)
    for vector, ids in zip(found, read["input_ids"], strict=True):
        words = torch.stack([table[one] for one in ids.tolist() if one >= 5])
        expected = words.mean(0) / words.mean(0).norm()
        assert torch.allclose(vector, expected, atol=1e-6)


def test_tokens_are_embedded_alone_between_the_special_tokens() -> None:
    teacher = CASES["bert-sentences"].teacher()
    module = teacher.embedder()
    assert module is not None
    found = token_vectors(module, teacher.tokenizer, VOCABULARY)
    read = teacher.tokenizer("w7", return_tensors="pt")
    with torch.inference_mode():
        assert torch.allclose(found[int(read["input_ids"][0, 1])], module(**read)[0], atol=1e-6)


def test_principal_components_keep_what_varies_most() -> None:
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    vectors *= torch.tensor([1, 9, 2, 8, 1, 1])
    centred = vectors - vectors.mean(0)
    found, directions = principal(vectors, 2)
    assert torch.allclose(centred @ directions, found, atol=1e-4)
    _, values, _ = torch.linalg.svd(centred)
    assert torch.allclose(found.norm(dim=0), values[:2], rtol=1e-4)
    assert torch.allclose(principal(vectors, 6)[0].norm(), centred.norm(), rtol=1e-4)


def test_frequent_tokens_count_less_and_special_ones_nothing() -> None:
    weights = frequency_weights(100, [0, 3], smoothing=1e-2)
    assert weights[[0, 3]].tolist() == [0, 0]
    ordinary = weights[weights > 0]
    assert len(ordinary) == 98
    assert bool((ordinary.diff() > 0).all())
    # Zipf's law: the second token is two thirds as frequent as the first, counted from two
    odds = (1e-2 / ordinary - 1e-2)[:2]
    assert float(odds[1] / odds[0]) == pytest.approx(2 / 3, rel=1e-4)


def test_it_is_built_again_from_its_blueprint(cache: Cache) -> None:
    own = StaticEmbedding(dim=99).made(CASES["bert-sentences"].teacher(), cache)
    blueprint = Blueprint.of(type(own.model).__name__, own.config)
    assert blueprint.skeleton().num_parameters() == VOCABULARY * 24  # no wider than the teacher
    given = own.tokenizer(texts(2), padding=True, return_tensors="pt")
    assert blueprint.build()(**given)[0].shape == own.model(**given)[0].shape


def test_only_sentence_encoders_have_one(cache: Cache) -> None:
    with pytest.raises(BadInput, match="it embeds texts, and tiny is a model for fill-mask"):
        StaticEmbedding().made(CASES["bert-masked"].teacher(), cache)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(
        BadInput, match=r"StaticEmbedding\(dim=0, smoothing=0.0001\): expected both"
    ):
        StaticEmbedding(dim=0)
