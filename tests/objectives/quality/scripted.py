"""An objective that gives a score written down beforehand, for each student that it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from protege.objectives import Candidate, Direction, Measurement, Stage


def state(candidate: Candidate) -> dict[str, Tensor]:
    """The tensors of a candidate's student, as they are now."""
    found: dict[str, Tensor] = candidate.student.module.state_dict()
    return {name: tensor.clone() for name, tensor in found.items()}


@dataclass
class Scripted:
    """Scores students by the list, and notes each of them with its weights at that moment.

    Attributes:
        values: The scores, in the order of the calls.
        name: The name.
        direction: Whether more is better.
        at_rungs: Whether it scores students during training.
        seen: The candidates that were measured, each with a copy of its weights.
    """

    values: Sequence[float] = field(repr=False)
    name: str = "scripted"
    direction: Direction = "maximize"
    at_rungs: bool = True
    seen: list[tuple[Candidate, dict[str, Tensor]]] = field(default_factory=list, repr=False)

    unit: ClassVar[str] = ""
    limit: ClassVar[float | None] = None
    stage: ClassVar[Stage] = Stage.STUDENT

    def measure(self, candidate: Candidate) -> Measurement:
        self.seen.append((candidate, state(candidate)))
        return Measurement(self.values[len(self.seen) - 1])
