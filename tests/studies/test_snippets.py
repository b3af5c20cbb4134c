import statistics
from pathlib import Path
from typing import Any, get_args

import pytest

from protege.spaces import BadInput
from studies.snippets import ARCHIVE, Kind, snippets

downloaded = pytest.mark.skipif(
    not ARCHIVE.is_file(), reason=f"{ARCHIVE} is not there; make test downloads it"
)

COUNTS: dict[Kind, int] = {
    "movieReviewSnippets": 10_605,
    "nytEditorialSnippets": 5_190,
    "amazonReviewSnippets": 3_708,
    "tweets": 4_200,
}


@downloaded
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_text_has_a_rating_that_people_can_give(kind: Kind) -> None:
    found = snippets(kind)
    assert len(found) == COUNTS[kind]
    assert all(-4 <= one.rating <= 4 for one in found)
    assert all(one.text and "\n" not in one.text and "\t" not in one.text for one in found)


@downloaded
def test_ratings_belong_to_their_texts() -> None:
    first, second, third = snippets("movieReviewSnippets")[:3]
    assert first.text.startswith("The Rock is destined to be the 21st Century's new")
    assert (first.rating, second.rating) == (2.26666666667, 3.53333333333)
    assert (third.rating, third.text) == (-0.6, "Effective but too tepid biopic")
    by_word = {
        word: statistics.mean(one.rating for one in snippets("tweets") if word in one.text.lower())
        for word in ("love", "hate")
    }
    assert by_word["love"] > 1 > -1 > by_word["hate"]


def test_without_the_archive_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    command = "-m pip download --no-deps --no-binary vaderSentiment --dest .* vaderSentiment==3.3.2"
    with pytest.raises(BadInput, match=rf"data.tar.gz: no such file; run: .* {command}$"):
        snippets("tweets", tmp_path / "data.tar.gz")


def test_another_kind_is_refused_by_name() -> None:
    kind: Any = "letters"
    with pytest.raises(BadInput, match="snippets 'letters': expected one of movieReviewSnippets, "):
        snippets(kind)
