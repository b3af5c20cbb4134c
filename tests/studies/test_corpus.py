from studies.corpus import LONGEST, SHORTEST, standard_library


def test_the_documentation_makes_thousands_of_different_paragraphs() -> None:
    found = standard_library().texts
    assert len(found) > 4000
    assert len(set(found)) == len(found)
    assert {SHORTEST <= len(text) <= LONGEST for text in found} == {True}


def test_it_is_prose_not_code() -> None:
    found = standard_library().texts
    assert not any(">>>" in text or "::=" in text or "\n" in text for text in found)
    assert any("assert" in text.lower() for text in found)


def test_it_is_the_same_text_every_time() -> None:
    assert standard_library().fingerprint == standard_library().fingerprint
