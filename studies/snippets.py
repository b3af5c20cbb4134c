"""Short English texts of four kinds, each with a human sentiment rating.

They are the evaluation data of VADER (Hutto and Gilbert, ICWSM 2014): sentences of film reviews,
newspaper editorials and product reviews, and tweets. They are in the source release of the package
`vaderSentiment`, not in its wheel.
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
    """One text with its rating.

    Attributes:
        rating: Mean rating of at least 20 people, from -4 (very negative) to 4 (very positive).
        text: One or a few sentences.
    """

    rating: float
    text: str


def snippets(kind: Kind, archive: Path = ARCHIVE) -> list[Snippet]:
    """Read all texts of one kind, in the order of the file, without unpacking to disk.

    Args:
        kind: Film reviews (10,605), editorials (5,190), product reviews (3,708) or tweets (4,200).
        archive: Path of the source release.

    Raises:
        BadInput: The kind is unknown, or the archive does not exist.
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
    """Parse a line of the file: number, rating and text, separated by tabs."""
    _, rating, text = line.split("\t", 2)
    return Snippet(float(rating), text.strip())
