"""How long what is under way still takes, for people."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVERY_S = 5.0
"""Seconds between two announcements of a share, and left of what is announced, at least."""


def duration(seconds: float) -> str:
    """Format seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@dataclass
class Remaining:
    """Work whose end is estimated from the share that is done.

    Attributes:
        announce: Told the share and the time that is left.
        doing: Names the work.
        clock: Tells the time in seconds.
    """

    announce: Callable[[str], None]
    doing: str
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._last = self.clock()

    def at(self, share: float) -> None:
        """Announce the share that is done, above 0 and at most 1."""
        self._last = self.clock()
        self.announce(f"{self.doing} {share:.0%}{self.left(share)}")

    def passing(self, share: float) -> None:
        """Announce the share unless something was announced a moment ago."""
        if self.is_due:
            self.at(share)

    @property
    def is_due(self) -> bool:
        """Whether nothing was announced for a while."""
        return self.clock() - self._last >= EVERY_S

    def left(self, share: float) -> str:
        """Say how long the rest takes, or nothing where it is about to end."""
        spent = self.clock() - self._began
        rest = spent / share - spent
        return f", about {duration(rest)} left" if rest > EVERY_S else ""
