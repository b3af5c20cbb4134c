"""What every objective says of itself, and what it says of a candidate."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from protege.objectives.candidate import Candidate
from protege.objectives.measurement import Cost, Direction, Measurement, Rung


class Objective(Protocol):
    """One thing that students are judged by."""

    @property
    def name(self) -> str:
        """The column it fills; carries the unit, such as ``latency_ms``."""

    @property
    def unit(self) -> str:
        """The unit for axis titles; empty for a plain ratio."""

    @property
    def direction(self) -> Direction:
        """Whether less or more of it is better."""

    @property
    def cost(self) -> Cost:
        """How dear it is to measure."""

    @property
    def limit(self) -> float | None:
        """The worst value that a student may have; one beyond it is not trained."""

    def measure(self, candidate: Candidate) -> Measurement:
        """The figure for this candidate."""


@runtime_checkable
class Trained(Protocol):
    """An objective whose figure grows as a candidate is trained: candidates can race."""

    def rungs(self, candidate: Candidate) -> Iterator[Rung]:
        """The figure at each rung, in order; `Objective.measure` gives what the last publishes."""


def exceeds(objective: Objective, value: float) -> bool:
    """Whether the value lies beyond the objective's limit."""
    if objective.limit is None:
        return False
    if objective.direction == "minimize":
        return value > objective.limit
    return value < objective.limit
