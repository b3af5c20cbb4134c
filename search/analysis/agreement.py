"""How well a short distillation ranks what a long one ranks, and which students tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from protege.objectives.bootstrap import ends
from protege.spaces.errors import BadInput

Values = npt.NDArray[np.float64]

FEWEST = 3
"""Students without which an order says nothing."""


@dataclass(frozen=True)
class Agreement:
    """How a short run agrees with a long one, with intervals over students.

    Attributes:
        students: How many both runs trained.
        k: How many count as the best.
        kendall: Kendall's tau-b, from -1 to 1; not a number if a run tells no two apart.
        kendall_interval: Its lower and its upper end.
        overlap: Share of the long run's k best that are among the short run's k best.
        overlap_interval: Its lower and its upper end.
    """

    students: int
    k: int
    kendall: float
    kendall_interval: tuple[float, float]
    overlap: float
    overlap_interval: tuple[float, float]


def kendall(short: Sequence[float] | Values, long: Sequence[float] | Values) -> float:
    """Kendall's tau-b: agreeing pairs less disagreeing ones, over the pairs that are not tied.

    1 where both runs put all students in the same order, -1 in the opposite one (Kendall, The
    Treatment of Ties in Ranking Problems, Biometrika 1945).

    Args:
        short: Each student's quality after the short run.
        long: And after the long run, in the same order.

    Returns:
        From -1 to 1; not a number if either run gives all students the same quality.

    Raises:
        BadInput: They are not of the same two students or more, or a quality is not finite.
    """
    return float(kendalltau(*_paired(short, long)).statistic)


def top_overlap(short: Sequence[float] | Values, long: Sequence[float] | Values, k: int) -> float:
    """Share of the long run's k best students that are among the short run's k best.

    Students that tie for the last places share them. So a short run that tells nobody apart
    has the overlap of chance, k out of all.

    Args:
        short: Each student's quality after the short run; more is better.
        long: And after the long run, in the same order.
        k: How many are the best.

    Returns:
        From 0 to 1.

    Raises:
        BadInput: They are not of the same two students or more, a quality is not finite, or
            there are no k.
    """
    pair = _paired(short, long)
    if not 1 <= k <= len(pair[0]):
        raise BadInput(f"k={k!r} best of {len(pair[0])} students: give 1 to {len(pair[0])}")
    both = np.minimum(_places(pair[0], k), _places(pair[1], k))
    return float(both.sum() / k)


def agreement(
    short: Sequence[float] | Values,
    long: Sequence[float] | Values,
    k: int,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Kendall's tau and top-k overlap with percentile bootstrap intervals over students.

    Students are drawn again with replacement (Efron and Tibshirani, 1993); a draw with fewer than
    three different ones is drawn anew. Of tau, draws that cannot be ranked are left out.

    Args:
        short: Each student's quality after the short run; more is better.
        long: And after the long run, in the same order.
        k: How many count as the best.
        level: Of the intervals.
        resamples: How often students are drawn.
        seed: Of the draws.

    Raises:
        BadInput: They are not of the same students, of fewer than three, a quality is not
            finite, there are no k students, the level is no share, or nothing is to be drawn.
    """
    pair, shares = _paired(short, long), ends(level)
    students = len(pair[0])
    if students < FEWEST or resamples < 1:
        raise BadInput(
            f"{students} students and {resamples} resamples: "
            f"expected {FEWEST} students or more and a resample or more"
        )
    tau, overlap = kendall(*pair), top_overlap(*pair, k)
    draws = [(pair[0][draw], pair[1][draw]) for draw in _draws(students, resamples, seed)]
    taus = _within([kendall(*draw) for draw in draws], shares)
    overlaps = _within([top_overlap(*draw, k) for draw in draws], shares)
    return Agreement(students, k, tau, taus, overlap, overlaps)


def sampled(ranks: Sequence[int], positions: Sequence[float], count: int) -> list[int]:
    """Which trials to distil for longer so that they stand for a study.

    Half come from the front, spread evenly along it; the others evenly from all behind it,
    ordered by rank and then along the first goal. Where one side has too few, the other fills up.

    Args:
        ranks: Each trial's non-dominated rank; 0 is the front.
        positions: Each trial's first goal.
        count: How many to take.

    Returns:
        Places in `ranks`, in order; all of them if there are no more than `count`.

    Raises:
        BadInput: Ranks and positions are not of the same trials, or none is to be taken.
    """
    if len(ranks) != len(positions) or count < 1:
        raise BadInput(
            f"{len(ranks)} ranks, {len(positions)} positions, {count} to take: "
            "expected a rank and a position for every trial, and 1 or more to take"
        )
    if len(ranks) <= count:
        return list(range(len(ranks)))
    order = sorted(range(len(ranks)), key=lambda i: (ranks[i], positions[i], i))
    front = [i for i in order if ranks[i] == 0]
    behind = order[len(front) :]
    from_behind = max(min(count // 2, len(behind)), count - len(front))
    return sorted([*_spread(front, count - from_behind), *_spread(behind, from_behind)])


def _spread(items: Sequence[int], count: int) -> list[int]:
    """So many of the items, evenly: first and last among them, or the middle one alone."""
    if count == 1:
        return [items[len(items) // 2]]
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def _places(values: Values, k: int) -> Values:
    """Each student's share of one of the k best places."""
    last = np.sort(values)[-k]
    above, level_with = values > last, values == last
    shares: Values = above + level_with * ((k - above.sum()) / level_with.sum())
    return shares


def _draws(students: int, resamples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Draws of students with replacement, at least three different ones in each.

    They are drawn here because `scipy.stats.bootstrap` cannot leave a draw out.
    """
    generator = np.random.default_rng(seed)
    draws: list[npt.NDArray[np.int64]] = []
    while len(draws) < resamples:
        drawn = generator.integers(students, size=(resamples, students))
        draws += [draw for draw in drawn if len(set(draw.tolist())) >= FEWEST]
    return draws[:resamples]


def _within(figures: Sequence[float], shares: tuple[float, float]) -> tuple[float, float]:
    """Between which figures the shares of all that are numbers lie."""
    known = [figure for figure in figures if not math.isnan(figure)]
    if not known:
        return math.nan, math.nan
    low, high = np.quantile(known, shares)
    return float(low), float(high)


def _paired(
    short: Sequence[float] | Values, long: Sequence[float] | Values
) -> tuple[Values, Values]:
    """Both runs' qualities as arrays."""
    one, other = np.asarray(short, dtype=float), np.asarray(long, dtype=float)
    alike = one.ndim == 1 and one.shape == other.shape and len(one) > 1
    if not alike or not np.isfinite([one, other]).all():
        raise BadInput(
            f"qualities of shapes {one.shape} and {other.shape}: "
            "expected a finite number for each of two students or more, the same in both runs"
        )
    return one, other
