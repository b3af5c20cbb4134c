import pytest

from protege.objectives import Texts
from studies.corpus import LONGEST, SHORTEST, standard_library


@pytest.fixture(scope="module")
def corpus() -> Texts:
    return standard_library()


def test_the_documentation_makes_thousands_of_different_paragraphs(corpus: Texts) -> None:
    found = corpus.texts
    assert len(found) > 4000
    assert len(set(found)) == len(found)
    assert {SHORTEST <= len(text) <= LONGEST for text in found} == {True}


def test_it_is_prose_not_code(corpus: Texts) -> None:
    found = corpus.texts
    assert not any(">>>" in text or "::=" in text or "\n" in text for text in found)
    assert any("assert" in text.lower() for text in found)


def test_it_is_the_same_text_every_time(corpus: Texts) -> None:
    assert standard_library().fingerprint == corpus.fingerprint
