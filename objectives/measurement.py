"""What an objective finds out about a student: plain records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from protege.spaces.errors import BadInput

Direction = Literal["minimize", "maximize"]


def name_of(base: str, label: str, unit: str) -> str:
    """Return the name of an objective: its kind, its label if it has one, and its unit.

    Raises:
        BadInput: The label is no plain word.
    """
    if label and not label.isidentifier():
        raise BadInput(f"label={label!r}: expected letters, digits and underscores")
    return "_".join(filter(None, (base, label, unit)))


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
