"""Who goes on: whether a candidate trains further, judged by what others reached at its rung."""

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

import moocore
import numpy as np
import numpy.typing as npt

from protege.spaces.errors import BadInput

Points = npt.NDArray[np.float64]

# Exclusive volumes are differences of volumes of about 1: what is closer than this is equal.
ROUNDING = 1e-9


class Decision(StrEnum):
    """What becomes of a candidate at a rung."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class Race:
    """How hard candidates compete at each rung.

    Attributes:
        eta: Of so many candidates at a rung one goes on; a front larger than that goes on whole.
        min_records: With fewer others at a rung everyone goes on.

    Raises:
        BadInput: `eta` is not above 1, or `min_records` is below 1.
    """

    eta: float = 3.0
    min_records: int = 4

    def __post_init__(self) -> None:
        if not 1 < self.eta < math.inf:
            raise BadInput(
                f"eta={self.eta!r}: one in eta goes on; give a number above 1, such as 3"
            )
        if self.min_records < 1:
            raise BadInput(
                f"min_records={self.min_records!r}: nothing to compare with; give 1 or more"
            )


def decide(records: npt.ArrayLike, new: npt.ArrayLike, race: Race) -> Decision:
    """Whether a candidate goes on from a rung.

    Asynchronous successive halving (ASHA, Li et al., arXiv 1810.05934) by non-dominated rank (as
    in Schmucker et al., arXiv 2106.12639): it stops if at least one in `race.eta` of the records
    is strictly better. Better is a lower rank among all of them and itself, or the same rank and
    a larger exclusive hypervolume within it. What nothing dominates always goes on.

    Args:
        records: ``(n, goals)``, what other candidates reached at this rung, in any order and unit,
            all to be minimised. One that is not finite is ignored.
        new: ``(goals,)``, what this one reached. It stops if it is not finite.
        race: How hard they compete.

    Raises:
        BadInput: Records and candidate do not have the same goals.
    """
    reached, own = np.asarray(records, dtype=float), np.asarray(new, dtype=float)
    reached = reached if reached.size else np.empty((0, own.size))
    if own.ndim != 1 or not own.size or reached.shape[1:] != own.shape:
        raise BadInput(
            f"records {reached.shape} and candidate {own.shape}: "
            "expected (n, goals) and (goals,) of the same goals"
        )
    if not np.isfinite(own).all():
        return Decision.STOP
    others = reached[np.isfinite(reached).all(axis=1)]
    if len(others) < race.min_records:
        return Decision.CONTINUE
    better = _better(np.vstack([others, own]))
    return Decision.STOP if better >= math.ceil(len(others) / race.eta) else Decision.CONTINUE


def _better(points: Points) -> int:
    """How many points are strictly better than the last one; none if it is on the front."""
    rank = ranks(points)
    own = rank[-1]
    if own == 0:
        return 0
    volumes = exclusive(points[rank == own])
    return int((rank < own).sum() + (volumes > volumes[-1] + ROUNDING).sum())


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
