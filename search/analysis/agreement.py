"""Agreement of rankings after a short and a long distillation, and the sampling of students."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from protege.objectives.quality.bootstrap import ends
from protege.spaces.errors import BadInput

Values = npt.NDArray[np.float64]

FEWEST = 3
"""Minimum number of students for a ranking."""


@dataclass(frozen=True)
class Agreement:
    """How a short run agrees with a long one, with intervals over students.

    Attributes:
        students: Number of students that both runs trained.
        k: Number of students that count as the best.
        kendall: Kendall's tau-b in [-1, 1]; NaN if all students tie in a run.
        kendall_interval: Its confidence interval.
        overlap: Share of the long run's k best that are among the short run's k best.
        overlap_interval: Its confidence interval.
    """

    students: int
    k: int
    kendall: float
    kendall_interval: tuple[float, float]
    overlap: float
    overlap_interval: tuple[float, float]


def kendall(short: Sequence[float] | Values, long: Sequence[float] | Values) -> float:
    """Return Kendall's tau-b of two rankings.

    It is 1 for the same order and -1 for the opposite order (Kendall, The Treatment of Ties in
    Ranking Problems, Biometrika 1945).

    Args:
        short: Each student's quality after the short run.
        long: Their quality after the long run, in the same order.

    Returns:
        A value in [-1, 1]; NaN if either run gives all students the same quality.

    Raises:
        BadInput: The lengths differ, there are fewer than two students, or a quality is not finite.
    """
    return float(kendalltau(*_paired(short, long)).statistic)


def top_overlap(short: Sequence[float] | Values, long: Sequence[float] | Values, k: int) -> float:
    """Return the share of the long run's k best students that are among the short run's k best.

    Students that tie for the last places share them: if all tie in the short run, the overlap is
    that of chance, ``k / n``.

    Args:
        short: Each student's quality after the short run; more is better.
        long: Their quality after the long run, in the same order.
        k: Number of students that count as the best.

    Returns:
        A value in [0, 1].

    Raises:
        BadInput: The lengths differ, there are fewer than two students, a quality is not finite,
            or `k` is out of range.
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
    """Return Kendall's tau and top-k overlap with percentile bootstrap intervals over students.

    Students are resampled with replacement (Efron and Tibshirani, 1993). Resamples with fewer than
    three distinct students are redrawn; those whose tau is NaN are left out of its interval.

    Args:
        short: Each student's quality after the short run; more is better.
        long: Their quality after the long run, in the same order.
        k: Number of students that count as the best.
        level: Confidence level of the intervals.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        BadInput: The lengths differ, there are fewer than three students, a quality is not finite,
            or `k`, `level` or `resamples` is out of range.
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
    """Choose a representative sample of trials.

    Half come from the front, evenly along it; the others evenly from the dominated trials, ordered
    by rank and then by the first objective. If one side has too few, the other fills up.

    Args:
        ranks: Each trial's non-dominated rank; 0 is the front.
        positions: Each trial's value of the first objective.
        count: Size of the sample.

    Returns:
        Indices into `ranks`, in order; all of them if there are at most `count`.

    Raises:
        BadInput: The lengths differ, or `count` is below 1.
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
    """Return `count` items, evenly spaced from first to last; for one the middle item."""
    if count == 1:
        return [items[len(items) // 2]]
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def _places(values: Values, k: int) -> Values:
    """Return each student's share of the k best places, ``(n,)``; ties share places."""
    last = np.sort(values)[-k]
    above, level_with = values > last, values == last
    shares: Values = above + level_with * ((k - above.sum()) / level_with.sum())
    return shares


def _draws(students: int, resamples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Draw resamples of at least `FEWEST` distinct students.

    `scipy.stats.bootstrap` cannot reject a resample.
    """
    generator = np.random.default_rng(seed)
    draws: list[npt.NDArray[np.int64]] = []
    while len(draws) < resamples:
        drawn = generator.integers(students, size=(resamples, students))
        draws += [draw for draw in drawn if len(set(draw.tolist())) >= FEWEST]
    return draws[:resamples]


def _within(figures: Sequence[float], shares: tuple[float, float]) -> tuple[float, float]:
    """Return two quantiles of the figures that are not NaN."""
    known = [figure for figure in figures if not math.isnan(figure)]
    if not known:
        return math.nan, math.nan
    low, high = np.quantile(known, shares)
    return float(low), float(high)


def _paired(
    short: Sequence[float] | Values, long: Sequence[float] | Values
) -> tuple[Values, Values]:
    """Return the qualities of both runs as arrays, after checking them."""
    one, other = np.asarray(short, dtype=float), np.asarray(long, dtype=float)
    alike = one.ndim == 1 and one.shape == other.shape and len(one) > 1
    if not alike or not np.isfinite([one, other]).all():
        raise BadInput(
            f"qualities of shapes {one.shape} and {other.shape}: "
            "expected a finite number for each of two students or more, the same in both runs"
        )
    return one, other
