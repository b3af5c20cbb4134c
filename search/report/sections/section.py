"""`Section`, a heading of the report with what stands under it."""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from protege.search.report.parts import Plot, Table


class Captioned(NamedTuple):
    """A table with the caption by which screen readers name it."""

    caption: str
    table: Table


class Points(NamedTuple):
    """A list of sentences."""

    sentences: list[str]


class Command(NamedTuple):
    """A line for a shell."""

    line: str


Block: TypeAlias = str | Plot | Captioned | Points | Command
"""A paragraph, a plot, a table, a list or a command."""


class Section(NamedTuple):
    """A section of the report.

    Attributes:
        name: Its anchor.
        title: Its heading.
        blocks: What it shows, in order.
        folded: Whether it is shown only when opened.
    """

    name: str
    title: str
    blocks: list[Block]
    folded: bool = False


def joined(words: Iterable[str]) -> str:
    """Join words as ``a, b and c``."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
