"""Records of measurements: value, spread and samples of one objective on one candidate."""

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
    """Cost class of a measurement; cheap objectives are measured first."""

    FREE = 0
    SECONDS = 1
    MINUTES = 2


@dataclass(frozen=True)
class Measurement:
    """The result of one objective on one candidate.

    Attributes:
        value: The value, in the objective's unit.
        spread: Standard error, in the same unit; 0 for exact values.
        samples: The raw samples.
        details: Further figures by name; each name carries its unit.
        examples: Score of each example, higher is better. All candidates share the order, for
            paired comparisons.
    """

    value: float
    spread: float = 0.0
    samples: tuple[float, ...] = ()
    details: Mapping[str, float | str] = field(default_factory=dict)
    examples: tuple[float, ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Measurement":
        """Rebuild a measurement from its `dataclasses.asdict` record after a JSON round trip."""
        return cls(**{**record, **{part: tuple(record[part]) for part in ("samples", "examples")}})


@dataclass(frozen=True)
class Rung:
    """The measurement of a candidate at one step of its training.

    Attributes:
        step: Training steps done.
        measurement: The measurement at this step.
        is_last: Whether training ends here.
        best: The best measurement up to this step; None means `measurement` itself.
    """

    step: int
    measurement: Measurement
    is_last: bool = False
    best: Measurement | None = None

    @property
    def published(self) -> Measurement:
        """The trial's measurement if its training ends here."""
        return self.best or self.measurement
