"""Which candidates are within noise of each other.

Two are judged on the same draws of examples (the paired bootstrap: Koehn, Statistical Significance
Tests for Machine Translation Evaluation, EMNLP 2004), so that what makes an example hard for both
does not count against either.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from protege.objectives.bootstrap import Scores, ends, means

# Sums of the same numbers may differ in their last bits.
ROUNDING = 1e-12


def tied(examples: Mapping[int, Sequence[float]], level: float = 0.95) -> dict[int, list[int]]:
    """Which candidates are within noise of each other.

    Two are tied if the paired bootstrap interval of the mean difference of their scores contains
    0. Only scores of the same examples can be compared: candidates with different numbers of
    them are never tied, nor is one with fewer than two or with a score that is not finite.

    Args:
        examples: By trial number, one score for each held-out example; the same examples in the
            same order for all.
        level: Of the intervals.

    Returns:
        By trial number, the numbers of the trials that it is tied with, in order.

    Raises:
        BadInput: The level is no share.
    """
    shares = ends(level)
    together: defaultdict[int, list[int]] = defaultdict(list)
    for number, scores in sorted(examples.items()):
        if len(scores) > 1 and np.isfinite(scores).all():
            together[len(scores)].append(number)
    found: dict[int, list[int]] = {number: [] for number in sorted(examples)}
    for numbers in together.values():
        table = np.array([examples[number] for number in numbers], dtype=float).T
        for one, other in np.argwhere(_within_noise(table, shares)):
            found[numbers[one]].append(numbers[other])
    return found


def _within_noise(scores: Scores, shares: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which pairs of columns are tied, ``(candidates, candidates)``; no column with itself."""
    drawn = means(scores, seed=0)
    count = drawn.shape[1]
    rounding = ROUNDING * np.abs(scores).max()
    ties = np.zeros((count, count), dtype=bool)
    for one in range(count - 1):
        # one candidate at a time: all pairs of hundreds of candidates would not fit into memory
        low, high = np.quantile(drawn[:, one, None] - drawn[:, one + 1 :], shares, axis=0)
        ties[one, one + 1 :] = (low <= rounding) & (high >= -rounding)
    return ties | ties.T
