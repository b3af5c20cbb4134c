"""Where a study's time went, and how much of it was the study's own doing."""

from collections.abc import Mapping
from dataclasses import dataclass

USEFUL = ("latency", "calibrate", "heal", "teacher answers", "distil", "evaluate")
"""Phases that measure, heal, train or evaluate; all others are overhead."""


@dataclass(frozen=True)
class Accounting:
    """Seconds of a study by phase.

    Attributes:
        seconds: By phase, over all runs of the study.
    """

    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    @property
    def overhead(self) -> float:
        """Share of the time that neither measured nor trained nor evaluated."""
        useful = sum(self.seconds.get(phase, 0.0) for phase in USEFUL)
        return 1 - useful / self.total if self.total else 0.0

    def __str__(self) -> str:
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        rows = [f"  {phase:<16}{s:>9.1f} s {s / self.total:>6.1%}" for phase, s in ordered]
        heading = f"Time: {self.total:.0f} s, {self.overhead:.1%} of it overhead"
        return "\n".join([heading, *rows])
