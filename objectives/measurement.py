"""Stages of measuring, and records of measurements and of trainings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import hypot
from statistics import fmean, stdev
from typing import Any, Literal

from protege.spaces.errors import BadInput

SURE = 1.645
"""Standard errors of a difference that noise exceeds in one case of twenty."""

Direction = Literal["minimize", "maximize"]


class Stage(IntEnum):
    """What an objective needs of a candidate. Earlier stages are measured first."""

    ARCHITECTURE = 0
    """The sizes alone; measured in no time."""
    SHAPE = 1
    """The model class and its configuration, with random weights; takes seconds."""
    STUDENT = 2
    """The distilled student; takes minutes."""


def name_of(base: str, label: str, unit: str) -> str:
    """Return the name of an objective: its kind, its label if it has one, and its unit.

    Raises:
        BadInput: The label is no plain word.
    """
    if label and not label.isidentifier():
        raise BadInput(f"label={label!r}: expected letters, digits and underscores")
    return "_".join(filter(None, (base, label, unit)))


JUDGED_IN = "judged_in"
"""The detail of a measurement that names precision and runtime, if not float32 in PyTorch."""


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


def worsened(before: Measurement, after: Measurement, direction: Direction) -> bool:
    """Return whether a value became worse by more than noise.

    The test is one-sided at the 5 % level: paired if both have the scores of the same number of
    examples, else by the standard errors. Any loss counts between exact values.

    Args:
        before: The first measurement.
        after: The second one, on the same data.
        direction: Whether lower or higher values are better.
    """
    lost = before.value - after.value if direction == "maximize" else after.value - before.value
    error = hypot(before.spread, after.spread)
    if len(before.examples) == len(after.examples) > 1:
        differ = [b - a for b, a in zip(before.examples, after.examples, strict=True)]
        paired = stdev(differ) / len(differ) ** 0.5
        return lost > 0 and fmean(differ) > SURE * paired
    return lost > 0 and lost > SURE * error


@dataclass(frozen=True)
class Prediction:
    """A predicted value.

    Attributes:
        value: The value, in the objective's unit.
        margin: The relative error margin.
        samples: Number of measured candidates that it was learned from.
    """

    value: float
    margin: float
    samples: int

    @property
    def least(self) -> float:
        """Lower bound of the value."""
        return self.value * (1 - self.margin)


@dataclass(frozen=True)
class TrainingRecord:
    """How a student was distilled.

    Attributes:
        steps: Optimiser steps done.
        best_step: Steps after which the published weights were taken; 0 if training could not
            improve the student, which is then published as cut and healed.
        learning_rate: Peak rate; 0 if no step was taken.
        losses: The loss of every step.
    """

    steps: int
    best_step: int
    learning_rate: float = 0.0
    losses: tuple[float, ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "TrainingRecord":
        """Read a record from what `dataclasses.asdict` made, after a JSON round trip."""
        return cls(**{**record, "losses": tuple(record["losses"])})
