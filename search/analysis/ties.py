"""Ties and dominance between candidates, given the error of their measurements.

Qualities are compared by the paired bootstrap over the same held-out examples (Koehn, Statistical
Significance Tests for Machine Translation Evaluation, EMNLP 2004), in which the difficulty of an
example cancels out. Figures without examples are compared by their standard errors.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from protege.objectives import Measurement
from protege.objectives.quality.bootstrap import Scores, ends, means

Pairs = npt.NDArray[np.bool_]

# Sums of the same numbers may differ in their last bits.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Noise:
    """Ties and dominance between candidates within measurement error.

    Attributes:
        tied: ``(candidates, candidates)``, whether two differ in no objective by more than noise;
            false on the diagonal.
        dominates: ``(candidates, candidates)``, whether the row's candidate is better than the
            column's in some objective and, within noise, no worse in any.
    """

    tied: Pairs
    dominates: Pairs

    @classmethod
    def of(cls, objectives: Sequence[Sequence[Measurement]], signs: Sequence[float]) -> "Noise":
        """Compare candidates in every objective.

        Args:
            objectives: For each objective one measurement of every candidate, in the same order.
            signs: For each objective 1 if it is minimised, -1 if it is maximised.
        """
        same = np.array([close(found) for found in objectives])
        costs = np.array([[one.value for one in found] for found in objectives])
        costs *= np.array(signs)[:, None]
        better = (costs[:, :, None] < costs[:, None, :]) & ~same
        every: Pairs = np.logical_and.reduce(same, axis=0)
        dominates: Pairs = (same | better).all(axis=0) & better.any(axis=0)
        return cls(np.logical_and(every, ~_itself(len(costs[0]))), dominates)

    def dominated(self, among: Sequence[int]) -> dict[int, list[int]]:
        """Return the candidates that are dominated within noise by one that stays.

        If A dominates B and B dominates C, but A does not dominate C, then A and C stay.

        Returns:
            For each candidate that does not stay, the sorted indices of those that dominate it.
        """
        left, stay = list(among), list[int]()
        found: dict[int, list[int]] = {}
        while left:
            # in a cycle none is better than the rest: all stay
            free = [one for one in left if not self.dominates[left, one].any()] or left
            stay += free
            left = [one for one in left if one not in free]
            for one in left:
                above = sorted(other for other in stay if self.dominates[other, one])
                if above:
                    found[one] = above
            left = [one for one in left if one not in found]
        return found


def close(found: Sequence[Measurement], level: float = 0.95) -> Pairs:
    """Return which pairs of one objective's measurements are equal within noise.

    Measurements of the same number of held-out examples are compared by `tied`, others are equal if
    the interval of their difference, from their standard errors, contains 0.

    Returns:
        ``(candidates, candidates)``; every candidate is equal to itself.
    """
    values = np.array([one.value for one in found])
    errors = np.array([one.spread for one in found])
    wide = NormalDist().inv_cdf(ends(level)[1])
    rounding = ROUNDING * np.abs(values).max(initial=0.0)
    apart = np.abs(values[:, None] - values)
    same = apart <= wide * np.hypot(errors[:, None], errors) + rounding
    counts = np.array([_count(one.examples) for one in found])
    paired = (counts[:, None] == counts) & (counts > 0)
    ties = np.zeros_like(same)
    for one, others in tied({n: m.examples for n, m in enumerate(found)}, level).items():
        ties[one, others] = True
    equal: Pairs = np.where(paired, ties, same) | _itself(len(values))
    return equal


def tied(examples: Mapping[int, Sequence[float]], level: float = 0.95) -> dict[int, list[int]]:
    """Return which candidates are within noise of each other.

    Two are tied if the paired bootstrap interval of the mean difference of their scores contains
    0. Candidates with different numbers of scores are never tied, nor is one with fewer than two
    scores or with a score that is not finite.

    Args:
        examples: By trial number, one score for each held-out example; the same examples in the
            same order for all.
        level: Confidence level of the intervals.

    Returns:
        By trial number, the sorted numbers of the trials it is tied with.

    Raises:
        BadInput: The level is not in (0, 1).
    """
    shares = ends(level)
    together: defaultdict[int, list[int]] = defaultdict(list)
    for number, scores in sorted(examples.items()):
        if _count(scores):
            together[len(scores)].append(number)
    found: dict[int, list[int]] = {number: [] for number in sorted(examples)}
    for numbers in together.values():
        table = np.array([examples[number] for number in numbers], dtype=float).T
        for one, other in np.argwhere(_within_noise(table, shares)):
            found[numbers[one]].append(numbers[other])
    return found


def _itself(count: int) -> Pairs:
    return np.eye(count, dtype=np.bool_)


def _count(scores: Sequence[float]) -> int:
    """Return the number of scores, or 0 if they cannot be compared."""
    return len(scores) if len(scores) > 1 and np.isfinite(scores).all() else 0


def _within_noise(scores: Scores, shares: tuple[float, float]) -> Pairs:
    """Return which columns are tied, ``(candidates, candidates)``; false on the diagonal."""
    drawn = means(scores, seed=0)
    count = drawn.shape[1]
    rounding = ROUNDING * np.abs(scores).max()
    ties = np.zeros((count, count), dtype=bool)
    for one in range(count - 1):
        # row by row: all pairs of hundreds of candidates would not fit into memory
        low, high = np.quantile(drawn[:, one, None] - drawn[:, one + 1 :], shares, axis=0)
        ties[one, one + 1 :] = (low <= rounding) & (high >= -rounding)
    return ties | ties.T
