"""The course of a search: what it had after how many seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import moocore


class Point(NamedTuple):
    """A student: when its search had it, its latency relative to the teacher, its quality."""

    at_s: float
    latency: float
    quality: float


@dataclass(frozen=True)
class Course:
    """The course of a search.

    Attributes:
        own: Every trial as the search measured it.
        judged: The students of its front as `recipe_judge` measured them.
    """

    own: list[Point]
    judged: list[Point]

    def volumes(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Return the seconds at which the hypervolume grew, with its value from then on."""
        ordered = sorted(points)
        return [(one.at_s, volume(ordered[: at + 1])) for at, one in enumerate(ordered)]

    def after(self, seconds: float) -> float:
        """Return the judged hypervolume of the students that were finished by then."""
        return volume([one for one in self.judged if one.at_s <= seconds])

    @property
    def final(self) -> float:
        """The judged hypervolume of the front."""
        return volume(self.judged)

    @property
    def believed(self) -> float:
        """The hypervolume of the trials by the search's own measurements."""
        return volume(self.own)

    def reached(self, goal: float) -> float:
        """Return the seconds until the judged hypervolume is the goal; infinite if it never is.

        Students that a later one displaced are not judged, so that the search may have been faster.
        """
        return next((at for at, found in self.volumes(self.judged) if found >= goal), inf)


def volume(points: Sequence[Point]) -> float:
    """Return the share of the box between the teacher and the ideal that students dominate."""
    inside = [(min(one.latency, 1.0), min(-one.quality, 0.0)) for one in points]
    return float(moocore.hypervolume(inside, ref=[1.0, 0.0])) if inside else 0.0


def front_of(points: Sequence[Point]) -> list[int]:
    """Return the indices of the non-dominated points that are faster than the teacher."""

    def beats(one: Point, other: Point) -> bool:
        at_least = one.latency <= other.latency and one.quality >= other.quality
        return at_least and one[1:] != other[1:]

    return [
        at
        for at, own in enumerate(points)
        if own.latency < 1 and not any(beats(other, own) for other in points)
    ]
