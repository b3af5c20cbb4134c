"""The objectives as a study records them, and the order of trials by them."""

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
class ObjectiveRecord:
    """One objective as a study records it, for ranking and plotting.

    Attributes:
        name: Its name, with the unit.
        unit: Its unit; empty for a ratio.
        direction: Whether lower or higher values are better.
        limit: Worst allowed value, or None.
        at_rungs: Whether its value is known at the rungs of a training.
    """

    name: str
    unit: str
    direction: Direction
    limit: float | None = None
    at_rungs: bool = True

    @classmethod
    def of(cls, objective: "Objective") -> "ObjectiveRecord":
        """Return the record of an objective."""
        late = objective.stage >= 2 and not getattr(objective, "at_rungs", False)
        return cls(objective.name, objective.unit, objective.direction, objective.limit, not late)

    @property
    def sign(self) -> float:
        """1 if the objective is minimised, -1 if it is maximised."""
        return 1.0 if self.direction == "minimize" else -1.0

    def violation(self, value: float) -> float:
        """Return how far a value exceeds the limit, relative to it; at most 0 if it does not."""
        if self.limit is None:
            return 0.0
        return self.sign * (value - self.limit) / (abs(self.limit) or 1.0)

    def record(self) -> dict[str, Any]:
        """Return the objective as JSON values."""
        return asdict(self)


SPEEDUP = ObjectiveRecord("speedup", "", "maximize")
"""The objective of a budget on the speedup over the teacher."""

PARAMETERS = ObjectiveRecord("parameters_m", "M", "minimize")
"""The objective of a budget on the number of parameters, in millions."""


def value_of(trial: Trial, objective: ObjectiveRecord) -> float:
    """Return the trial's value of an objective, its speedup, or its parameters in millions."""
    if objective is SPEEDUP:
        return trial.speedup
    if objective is PARAMETERS:
        return math.nan if trial.parameters is None else trial.parameters / 1e6
    return trial.measurements[objective.name].value


@dataclass(frozen=True)
class ObjectiveRecords:
    """All objectives of a study, in order."""

    records: tuple[ObjectiveRecord, ...]

    @classmethod
    def of(cls, objectives: "Sequence[Objective]") -> "ObjectiveRecords":
        """Return the records of objectives."""
        return cls(tuple(ObjectiveRecord.of(objective) for objective in objectives))

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]]) -> "ObjectiveRecords":
        """Read records from what `ObjectiveRecord.record` returned."""
        return cls(tuple(ObjectiveRecord(**record) for record in records))

    @property
    def names(self) -> list[str]:
        """The objectives' names."""
        return [objective.name for objective in self.records]

    def values(self, trial: Trial) -> list[float]:
        """Return the trial's values in the order of the objectives."""
        return [trial.measurements[name].value for name in self.names]

    def violations(self, trial: Trial) -> dict[str, float]:
        """Return the violation of each limit whose value is known, sorted by name."""
        limited = sorted(
            (objective for objective in self.records if objective.limit is not None),
            key=lambda one: one.name,
        )
        known = {objective.name: trial.known(objective.name) for objective in limited}
        return {
            objective.name: objective.violation(value)
            for objective in limited
            if (value := known[objective.name]) is not None
        }

    def feasible(self, trial: Trial) -> bool:
        """Return whether the trial is complete and within every limit."""
        if trial.state is not State.COMPLETE:
            return False
        pairs = zip(self.records, self.values(trial), strict=True)
        return all(objective.violation(value) <= 0 for objective, value in pairs)

    def ranks(self, trials: Sequence[Trial]) -> list[int]:
        """Return the non-dominated rank of each trial; 0 is the front. All values must be known."""
        return [int(rank) for rank in ranks(self._points(trials))] if trials else []

    def front(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the non-dominated feasible trials, sorted by the first objective.

        Of trials with equal values the earliest stays.
        """
        feasible = [trial for trial in trials if self.feasible(trial)]
        if not feasible:
            return []
        keep = moocore.is_nondominated(self._points(feasible), keep_weakly=False)
        front = [trial for trial, kept in zip(feasible, keep, strict=True) if kept]
        return sorted(front, key=lambda trial: self._points([trial])[0].tolist())

    def hypervolume(self, trials: Sequence[Trial], teacher: Trial) -> float:
        """Return the share of the box between the teacher and the ideal that the trials dominate.

        All values are divided by the teacher's. The reference point is 1 for minimised objectives
        and 0 for maximised ones. If any is minimised, the teacher alone has hypervolume 0, and 1
        means all of its quality at no cost; students better than the teacher can exceed it.
        """
        front = self.front(trials)
        if not front:
            return 0.0
        scale = np.abs(np.array(self.values(teacher)))
        points = self._points(front) / np.where(scale > 0, scale, 1.0)
        worst = np.array(
            [1.0 if objective.direction == "minimize" else 0.0 for objective in self.records]
        )
        return float(moocore.hypervolume(np.minimum(points, worst), ref=worst))

    def _points(self, trials: Sequence[Trial]) -> Points:
        """Return values to minimise, ``(trials, objectives)``."""
        signs = np.array([objective.sign for objective in self.records])
        points: Points = np.array([self.values(trial) for trial in trials]) * signs
        return points


def ranks(points: Points) -> npt.NDArray[np.intp]:
    """Return each point's non-dominated rank; 0 is the front, and equal points share a rank.

    Rank 1 is the front of the points without rank 0, and so on (Deb et al., NSGA-II, 2002).

    Args:
        points: ``(n, objectives)``, finite and to be minimised.

    Returns:
        ``(n,)``, in the order of the points.
    """
    if not len(points):
        return np.empty(0, dtype=np.intp)
    found: npt.NDArray[np.intp] = moocore.pareto_rank(_plane(points)).astype(np.intp)
    return found


def exclusive(points: Points) -> Points:
    """Return the exclusive hypervolume of each of some mutually non-dominated points.

    Values are scaled to their range among the points. The reference point is the worst value of
    every objective plus the distance between neighbours if the points were spread evenly, so that
    points at the ends count as much as those between (Ishibuchi et al., Evolutionary Computation
    26(3), 2018). It does not depend on dominated points.

    Args:
        points: ``(n, objectives)``, finite and to be minimised.

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
    """Append a constant second column to points with only one."""
    return points if points.shape[1] > 1 else np.hstack([points, np.zeros_like(points)])


def _divisions(points: int, objectives: int) -> int:
    """Return the divisions per axis of an even lattice on the simplex with that many points."""
    return next(h for h in count(1) if math.comb(h + objectives, objectives - 1) > points)
