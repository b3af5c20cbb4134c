"""The protocols that objectives implement."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from protege.objectives.candidate import Candidate
from protege.objectives.measurement import Cost, Direction, Measurement, Rung


class Objective(Protocol):
    """One criterion of the search."""

    @property
    def name(self) -> str:
        """Column name, with the unit, such as ``latency_ms``."""

    @property
    def unit(self) -> str:
        """Unit for axis titles; empty for a ratio."""

    @property
    def direction(self) -> Direction:
        """Whether lower or higher values are better."""

    @property
    def cost(self) -> Cost:
        """Cost class of a measurement."""

    @property
    def limit(self) -> float | None:
        """Worst allowed value; a student beyond it is not trained. None means no limit."""

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure the candidate."""


@runtime_checkable
class Trained(Protocol):
    """An objective that trains the candidate and measures it at rungs, so that trials can race."""

    def rungs(self, candidate: Candidate) -> Iterator[Rung]:
        """Yield the measurement at each rung; `Objective.measure` returns the last `published`."""


def exceeds(objective: Objective, value: float) -> bool:
    """Return whether the value is beyond the objective's limit."""
    if objective.limit is None:
        return False
    if objective.direction == "minimize":
        return value > objective.limit
    return value < objective.limit
