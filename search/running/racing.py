"""Decide at each rung whether a candidate trains on, by what other candidates reached there."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from protege.search.records.objectives import Points, exclusive, ranks
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput

# Exclusive volumes are differences of volumes of about 1: what is closer than this is equal.
ROUNDING = 1e-9


class Decision(StrEnum):
    """The decision at a rung."""

    CONTINUE = "continue"
    STOP = "stop"


@checks_fields
@dataclass(frozen=True)
class Race:
    """How hard candidates compete at each rung.

    Attributes:
        eta: One in `eta` candidates goes on at each rung. Non-dominated candidates always do.
        min_records: With fewer other candidates at a rung every candidate goes on.

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
    """Decide whether a candidate goes on from a rung.

    Asynchronous successive halving (ASHA, Li et al., arXiv 1810.05934) by non-dominated rank (as
    in Schmucker et al., arXiv 2106.12639): the candidate stops if at least one in `race.eta` of
    the records is strictly better. A record is better if it has a lower rank, or the same rank and
    a larger exclusive hypervolume within it. A non-dominated candidate always goes on.

    Args:
        records: ``(n, objectives)``, values of other candidates at this rung in any order and unit,
            all to be minimised. Rows that are not finite are ignored.
        new: ``(objectives,)``, the candidate's own values. It stops if they are not finite.
        race: The settings.

    Raises:
        BadInput: Records and candidate have different numbers of objectives.
    """
    reached, own = np.asarray(records, dtype=float), np.asarray(new, dtype=float)
    reached = reached if reached.size else np.empty((0, own.size))
    if own.ndim != 1 or not own.size or reached.shape[1:] != own.shape:
        raise BadInput(
            f"records {reached.shape} and candidate {own.shape}: "
            "expected (n, objectives) and (objectives,) of the same objectives"
        )
    if not np.isfinite(own).all():
        return Decision.STOP
    others = reached[np.isfinite(reached).all(axis=1)]
    if len(others) < race.min_records:
        return Decision.CONTINUE
    better = _better(np.vstack([others, own]))
    return Decision.STOP if better >= math.ceil(len(others) / race.eta) else Decision.CONTINUE


def _better(points: Points) -> int:
    """Count the points that are strictly better than the last one; 0 if it is on the front."""
    rank = ranks(points)
    own = rank[-1]
    if own == 0:
        return 0
    volumes = exclusive(points[rank == own])
    return int((rank < own).sum() + (volumes > volumes[-1] + ROUNDING).sum())
