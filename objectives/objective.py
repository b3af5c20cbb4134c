"""The protocols that objectives implement."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from protege.objectives.candidate import Candidate
from protege.objectives.measurement import Direction, Measurement, Prediction, Stage
from protege.spaces import Architecture, Teacher


class Objective(Protocol):
    """One criterion of the search.

    The other protocols of this module are optional; an objective has them if it has their members.
    """

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
    def limit(self) -> float | None:
        """Worst allowed value, in the objective's unit; None means no limit.

        A student beyond the limit of an early stage is not trained.
        """

    @property
    def stage(self) -> Stage:
        """What the objective needs of a candidate."""

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure the candidate, whose `Candidate.student` is there from `Stage.STUDENT` on."""


@runtime_checkable
class ScoredAtRungs(Protocol):
    """An objective of `Stage.STUDENT` that is cheap enough to score students during training.

    Trials race by it, and the first such objective of a study selects the published weights.
    """

    @property
    def at_rungs(self) -> bool:
        """Whether students are scored at every rung, not only at the end."""


@runtime_checkable
class JudgedOnUnseen(Protocol):
    """An objective that can score students on data that the search never uses."""

    def measure_unseen(self, candidate: Candidate) -> Measurement | None:
        """Measure the candidate on unseen data; None if there is none."""


@runtime_checkable
class Confirmed(Protocol):
    """An objective with its own way to measure an exported student."""

    def confirm(self, own: Candidate, folder: Path) -> Mapping[str, float]:
        """Measure the student in a folder.

        Args:
            own: The teacher as a candidate.
            folder: The folder of the student.

        Returns:
            Values by name, the objective's own among them.
        """


@runtime_checkable
class Predictable(Protocol):
    """An objective that can be predicted from sizes, so that hopeless candidates are not built."""

    def predict_beyond(
        self,
        architecture: Architecture,
        known: Sequence[tuple[Mapping[str, Any], float]],
        teacher: Teacher,
    ) -> Prediction | None:
        """Predict whether an architecture exceeds the limit.

        Args:
            architecture: The sizes.
            known: Sizes and policies of the candidates measured so far, each with its value.
            teacher: The teacher.

        Returns:
            The prediction if even its lower bound is beyond the limit, else None.
        """


@runtime_checkable
class Checked(Protocol):
    """An objective that can tell early whether it fits the teacher."""

    def check(self, teacher: Teacher) -> None:
        """Check that students of this teacher can be measured.

        Raises:
            BadInput: They cannot, as the declaration stands.
            Unsupported: They cannot at all.
        """


def scores_rungs(objective: Objective) -> bool:
    """Return whether an objective scores students at every rung."""
    is_late = objective.stage is Stage.STUDENT
    return is_late and isinstance(objective, ScoredAtRungs) and objective.at_rungs


def judges_deployed(objective: Objective, teacher: Teacher) -> bool:
    """Return whether an objective judges the finished student as its target runs it.

    An objective that only reads outputs of single passes sets ``judges_deployed = "always"``; one
    that may let students write text sets ``"encoders"``, as an exported graph writes none.
    """
    said = getattr(objective, "judges_deployed", "")
    able = said == "always" or (said == "encoders" and not teacher.generates)
    return objective.stage is Stage.STUDENT and able


def exceeds(objective: Objective, value: float) -> bool:
    """Return whether the value is beyond the objective's limit."""
    if objective.limit is None:
        return False
    if objective.direction == "minimize":
        return value > objective.limit
    return value < objective.limit
