"""What every objective says of itself, and what it says of a candidate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

from protege.objectives.candidate import Candidate

Direction = Literal["minimize", "maximize"]


class Cost(IntEnum):
    """How dear a measurement is; cheap objectives are measured first."""

    FREE = 0
    SECONDS = 1
    MINUTES = 2


@dataclass(frozen=True)
class Measurement:
    """What one objective found out about one candidate.

    Attributes:
        value: The figure, in the objective's unit.
        spread: Its standard error, in the same unit; 0 where the figure is exact.
        samples: The raw samples behind it.
        details: Further figures by name, each name carrying its unit.
        examples: What each example that it was judged on is worth, in an order that is the same for
            all candidates, more being better: what comparisons are paired by.
    """

    value: float
    spread: float = 0.0
    samples: tuple[float, ...] = ()
    details: Mapping[str, float | str] = field(default_factory=dict)
    examples: tuple[float, ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Measurement":
        """The measurement that `dataclasses.asdict` gave, once it has been JSON."""
        return cls(**{**record, **{part: tuple(record[part]) for part in ("samples", "examples")}})


@dataclass(frozen=True)
class Rung:
    """The measurement of a candidate part of the way through its training.

    Attributes:
        step: Training steps before it.
        measurement: What was measured at this step.
        is_last: Whether training ends here.
        best: What is published if training ends here: the best measurement up to this step. It is
            `measurement` if not given.
    """

    step: int
    measurement: Measurement
    is_last: bool = False
    best: Measurement | None = None

    @property
    def published(self) -> Measurement:
        """The measurement of the trial if its training ends here."""
        return self.best or self.measurement


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
