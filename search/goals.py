"""What a study strives for: the part of its objectives that outlives the process."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
import numpy.typing as npt

from protege.objectives.measurement import Direction
from protege.search.racing import ranks
from protege.search.trial import State, Trial

if TYPE_CHECKING:
    from protege.objectives import Objective

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Goal:
    """One objective as a study records it: enough to rank and to draw, not to measure."""

    name: str
    unit: str
    direction: Direction
    limit: float | None
    declared: str

    @classmethod
    def of(cls, objective: "Objective") -> "Goal":
        """The goal of an objective."""
        return cls(
            objective.name, objective.unit, objective.direction, objective.limit, repr(objective)
        )

    @property
    def sign(self) -> float:
        """What a value is multiplied by so that less is better."""
        return 1.0 if self.direction == "minimize" else -1.0

    def violation(self, value: float) -> float:
        """By how much of the limit a value is beyond it; at most 0 if it is not."""
        if self.limit is None:
            return 0.0
        return self.sign * (value - self.limit) / (abs(self.limit) or 1.0)

    def record(self) -> dict[str, Any]:
        """The goal as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Goals:
    """All goals of a study, in the order of its objectives."""

    goals: tuple[Goal, ...]

    @classmethod
    def of(cls, objectives: "Sequence[Objective]") -> "Goals":
        """The goals of the objectives."""
        return cls(tuple(Goal.of(objective) for objective in objectives))

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]]) -> "Goals":
        """The goals that `Goal.record` gave."""
        return cls(tuple(Goal(**record) for record in records))

    @property
    def names(self) -> list[str]:
        """The objectives' names."""
        return [goal.name for goal in self.goals]

    def values(self, trial: Trial) -> list[float]:
        """The trial's values in the order of the goals."""
        return [trial.measurements[name].value for name in self.names]

    def violations(self, trial: Trial) -> dict[str, float]:
        """By how much the trial is beyond each limit whose figure is known, by name and sorted."""
        limited = sorted(
            (goal for goal in self.goals if goal.limit is not None), key=lambda one: one.name
        )
        known = {goal.name: trial.known(goal.name) for goal in limited}
        return {
            goal.name: goal.violation(value)
            for goal in limited
            if (value := known[goal.name]) is not None
        }

    def feasible(self, trial: Trial) -> bool:
        """Whether the trial is complete and within every limit."""
        if trial.state is not State.COMPLETE:
            return False
        pairs = zip(self.goals, self.values(trial), strict=True)
        return all(goal.violation(value) <= 0 for goal, value in pairs)

    def ranks(self, trials: Sequence[Trial]) -> list[int]:
        """The non-dominated rank of each trial whose every goal is known; 0 is the front's."""
        return [int(rank) for rank in ranks(self._points(trials))] if trials else []

    def front(self, trials: Sequence[Trial]) -> list[Trial]:
        """The feasible trials that no other one beats in everything, best first goal first.

        Of trials with equal values the earliest stays.
        """
        feasible = [trial for trial in trials if self.feasible(trial)]
        if not feasible:
            return []
        keep = moocore.is_nondominated(self._points(feasible), keep_weakly=False)
        front = [trial for trial, kept in zip(feasible, keep, strict=True) if kept]
        return sorted(front, key=lambda trial: self._points([trial])[0].tolist())

    def hypervolume(self, trials: Sequence[Trial], teacher: Trial) -> float:
        """Share of the box between the teacher and the ideal that the trials dominate.

        What is minimised is divided by the teacher's value and counts from 1, the teacher's own;
        what is maximised is divided likewise and counts from 0. So where anything is minimised
        the teacher alone has none, and 1 is all of its quality at no cost; students that are
        better than their teacher may pass it.
        """
        front = self.front(trials)
        if not front:
            return 0.0
        scale = np.abs(np.array(self.values(teacher)))
        points = self._points(front) / np.where(scale > 0, scale, 1.0)
        worst = np.array([1.0 if goal.direction == "minimize" else 0.0 for goal in self.goals])
        return float(moocore.hypervolume(np.minimum(points, worst), ref=worst))

    def _points(self, trials: Sequence[Trial]) -> Points:
        """Values to minimise, ``(trials, goals)``."""
        signs = np.array([goal.sign for goal in self.goals])
        points: Points = np.array([self.values(trial) for trial in trials]) * signs
        return points
