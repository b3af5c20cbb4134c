from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Picture
from protege.spaces import BadInput


@pytest.mark.parametrize(
    "other",
    ["Café crème", "CAFÉ CRÈME", " café\t\n crème ", "cafe\u0301 cre\u0300me", ("Café", "crème")],
)
def test_case_space_accents_and_words_make_no_other_text(other: str | tuple[str, ...]) -> None:
    assert Example(other).identity == Example("café crème").identity


@pytest.mark.parametrize("other", ["cafe creme", "cafécrème", "café crème.", ""])
def test_another_text_is_another(other: str) -> None:
    assert Example(other).identity != Example("café crème").identity


@given(text=st.text(st.characters()))
def test_any_text_has_an_identity_that_its_capitals_share(text: str) -> None:
    identity = Example(text).identity
    assert len(identity) == 16
    # of a few letters, such as the dotless i, the capital is another letter's
    if text.upper().casefold() == text.casefold():
        assert Example(text.upper()).identity == identity


def test_half_a_surrogate_pair_is_a_text_too() -> None:
    half, other = Example("a\ud800"), Example("a\ud801")
    assert half.identity != other.identity
    assert half.signature != other.signature


def test_the_label_is_no_part_of_the_identity_but_of_the_signature() -> None:
    labels: list[Any] = [None, 0, 1, "1", "good"]
    assert len({Example("a", label).identity for label in labels}) == 1
    assert len({Example("a", label).signature for label in labels}) == len(labels)


def test_the_signature_is_of_the_text_to_the_letter() -> None:
    texts: list[Any] = ["a b", "A b", "a  b", ("a", "b"), ("a b",)]
    assert len({Example(text).signature for text in texts}) == len(texts)


def test_pictures_are_told_apart_by_their_pixels_and_their_labels() -> None:
    white, black = Picture(bytes(12), (2, 2)), Picture(b"\xff" * 12, (2, 2))
    assert Example(white).identity != Example(black).identity
    assert Example(white).identity != Example(Picture(bytes(12), (4, 1))).identity
    assert Example(white, 0).identity == Example(white, 1).identity
    assert Example(white, 0).signature != Example(white, 1).signature


@pytest.mark.parametrize("content", ["", " \t\n", (), ("", " ")])
def test_nothing_to_read_is_blank(content: str | tuple[str, ...]) -> None:
    assert Example(content).blank


@pytest.mark.parametrize("content", ["a", ("", "a"), Picture(bytes(3), (1, 1))])
def test_anything_to_read_is_not(content: str | tuple[str, ...] | Picture) -> None:
    assert not Example(content).blank


def test_words_have_a_class_each() -> None:
    assert Example(("Ada", "wrote"), (1, "O")).label == (1, "O")
    with pytest.raises(BadInput, match="2 words with 1 labels; expected one per word"):
        Example(("Ada", "wrote"), (1,))
    assert Example("Ada wrote", ("joy", "fear", 0.5)).label == ("joy", "fear", 0.5)
