"""Short English texts of four kinds, each with a sentiment that people gave it.

They are the ones that VADER was measured on (Hutto and Gilbert, ICWSM 2014): sentences of film
reviews, of newspaper editorials and of product reviews, and tweets. The source release of the
package `vaderSentiment` has them, its wheel has not.
"""

import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from protege.spaces import BadInput

Kind = Literal["movieReviewSnippets", "nytEditorialSnippets", "amazonReviewSnippets", "tweets"]

RELEASE = "vaderSentiment-3.3.2"
ARCHIVE = Path(sys.prefix) / f"data/{RELEASE}.tar.gz"
"""Where `make test` puts the source release."""

_INSIDE = f"{RELEASE}/additional_resources/hutto_ICWSM_2014.tar.gz"


@dataclass(frozen=True)
class Snippet:
    """One text.

    Attributes:
        rating: Mean of at least twenty people's, from -4 (very negative) to 4 (very positive).
        text: A sentence or a few.
    """

    rating: float
    text: str


def snippets(kind: Kind, archive: Path = ARCHIVE) -> list[Snippet]:
    """All texts of one kind, in their own order; nothing is unpacked to disk.

    Args:
        kind: 10,605 of film reviews, 5,190 of editorials, 3,708 of product reviews, 4,200 tweets.
        archive: The source release.

    Raises:
        BadInput: There is no such kind, or no archive.
    """
    if kind not in get_args(Kind):
        raise BadInput(f"snippets {kind!r}: expected one of {', '.join(get_args(Kind))}")
    if not archive.is_file():
        raise BadInput(
            f"{archive}: no such file; run: {sys.executable} -m pip download --no-deps "
            f"--no-binary vaderSentiment --dest {archive.parent} {RELEASE.replace('-', '==')}"
        )
    with (
        tarfile.open(archive) as release,
        tarfile.open(fileobj=release.extractfile(_INSIDE)) as texts,
    ):
        file = texts.extractfile(f"hutto_ICWSM_2014/{kind}_GroundTruth.txt")
        content = file.read().decode("utf-8", errors="replace") if file else ""
    return [_snippet(line) for line in content.split("\n") if line.strip()]


def _snippet(line: str) -> Snippet:
    """Of a line of the file: number, rating and text with tabs between."""
    _, rating, text = line.split("\t", 2)
    return Snippet(float(rating), text.strip())
