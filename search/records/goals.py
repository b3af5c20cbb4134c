"""The goals of a study: the record of its objectives, and the order of trials by them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import moocore
import numpy as np
import numpy.typing as npt

from protege.objectives.measurement import Direction
from protege.search.records.trial import State, Trial

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


def ranks(points: Points) -> npt.NDArray[np.intp]:
    """Each point's non-dominated rank; 0 is the front, and equal points share a rank.

    Rank 1 is the front of what is left without rank 0, and so on (Deb et al., NSGA-II, 2002).

    Args:
        points: ``(n, goals)``, finite and to be minimised.

    Returns:
        ``(n,)``, in the order of the points.
    """
    if not len(points):
        return np.empty(0, dtype=np.intp)
    found: npt.NDArray[np.intp] = moocore.pareto_rank(_plane(points)).astype(np.intp)
    return found


def exclusive(points: Points) -> Points:
    """The hypervolume that each point alone dominates, of points none of which dominates another.

    Goals are taken over their range among the points, so that units do not matter. The reference
    is the worst of every goal and a margin: as much as lies between neighbours if so many points
    were spread evenly, so that those at the ends count as much as those between (Ishibuchi et al.,
    Evolutionary Computation 26(3), 2018). It hangs on no other point: what is worse than these
    cannot change their order.

    Args:
        points: ``(n, goals)``, finite and to be minimised.

    Returns:
        ``(n,)``, in the order of the points; 0 for points that are equal to another.
    """
    if not len(points):
        return np.empty(0)
    plane = _plane(points)
    low, spread = plane.min(axis=0), np.ptp(plane, axis=0)
    scaled = (plane - low) / np.where(spread > 0, spread, 1.0)
    margin = 1.0 / _divisions(*plane.shape)
    volumes: Points = moocore.hv_contributions(scaled, ref=np.full(plane.shape[1], 1.0 + margin))
    return volumes


def _plane(points: Points) -> Points:
    """The points with a second goal that is the same for all if they have but one."""
    return points if points.shape[1] > 1 else np.hstack([points, np.zeros_like(points)])


def _divisions(points: int, goals: int) -> int:
    """Into how many steps so many points divide each goal if spread evenly on a simplex."""
    return next(h for h in count(1) if math.comb(h + goals, goals - 1) > points)
