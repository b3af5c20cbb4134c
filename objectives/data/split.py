"""Three parts of the data that share nothing."""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from protege.objectives.data.example import Example


class Split(NamedTuple):
    """Three parts that share no example, smallest identities first.

    Attributes:
        train: What students learn from.
        selection: What decides between students.
        held_out: What no decision sees.
    """

    train: list[Example]
    selection: list[Example]
    held_out: list[Example]


class Asked(NamedTuple):
    """What the parts should come to, in sizes of their examples."""

    train: float
    selection: float
    held_out: float

    @property
    def room(self) -> float:
        """How much has to be known of the data: all parts, and four of any that gets a quarter."""
        return max(sum(self), 4 * self.selection, 4 * self.held_out)


def cut(
    examples: Sequence[Example], sizes: Sequence[float], asked: Asked, *, whole: bool
) -> Split | None:
    """The parts of what is asked, held-out examples first, then those to select on, then the rest.

    Args:
        examples: In the order of their identities.
        sizes: What each counts for.
        asked: What the parts should come to.
        whole: Whether these are all there are. If not, they are those of the smallest identities.

    Returns:
        The parts; None if the examples are too few to tell what they would be of all there are.
    """
    count, quarter = len(examples), sum(sizes) / 4
    if count < 4 and not whole:
        return None
    held_out = asked.held_out if count >= 4 else 0
    first = _end(sizes[: count - 2], 0, held_out, quarter)
    second = _end(sizes[: count - 1], first, asked.selection, quarter)
    third = _end(sizes, second, asked.train, inf)
    ends = ((0, first, held_out), (first, second, asked.selection), (second, third, asked.train))
    # more of the data has a larger quarter, which changes nothing for parts that are full
    if not whole and any(sum(sizes[begin:end]) < part for begin, end, part in ends):
        return None
    return Split(list(examples[second:third]), list(examples[first:second]), list(examples[:first]))


def _end(sizes: Sequence[float], begin: int, asked: float, most: float) -> int:
    """Where a part ends that begins there: when it is full, or before it has more than it may."""
    end, taken = begin, 0.0
    while end < len(sizes) and taken < asked and (end == begin or taken + sizes[end] <= most):
        taken += sizes[end]
        end += 1
    return end
