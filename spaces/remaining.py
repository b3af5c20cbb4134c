"""Progress messages with the estimated remaining time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVERY_S = 5.0
"""Minimum seconds between two messages, and minimum remaining time that is shown."""


def duration(seconds: float) -> str:
    """Format seconds as text."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@dataclass
class Remaining:
    """Announces progress and estimates the remaining time from the finished share.

    Attributes:
        announce: Callback for messages.
        doing: Name of the work.
        clock: Returns the time in seconds.
    """

    announce: Callable[[str], None]
    doing: str
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._last = self.clock()

    def at(self, share: float) -> None:
        """Announce the finished share, in (0, 1]."""
        self._last = self.clock()
        self.announce(f"{self.doing} {share:.0%}{self.left(share)}")

    def passing(self, share: float) -> None:
        """Announce the share if the last message is at least `EVERY_S` old."""
        if self.is_due:
            self.at(share)

    @property
    def is_due(self) -> bool:
        """Whether the last message is at least `EVERY_S` old."""
        return self.clock() - self._last >= EVERY_S

    def left(self, share: float) -> str:
        """Return the remaining time as text; empty if it is less than `EVERY_S`."""
        spent = self.clock() - self._began
        rest = spent / share - spent
        return f", about {duration(rest)} left" if rest > EVERY_S else ""
