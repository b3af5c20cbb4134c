"""What held-out examples can tell of quality: how sure a mean is, and who is within noise.

The bootstrap of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13): the
examples are drawn again with replacement, many times over, and the means of the draws show how far
the mean could have been off. Two candidates are judged on the same draws (Koehn, Statistical
Significance Tests for Machine Translation Evaluation, EMNLP 2004), so that what makes an example
hard for both does not count against either.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from protege.spaces.errors import BadInput

Scores = npt.NDArray[np.float64]

RESAMPLES = 2000
# Draws that are in memory at a time, whatever the number of examples.
BLOCK = 2**21
# Sums of the same numbers may differ in their last bits.
ROUNDING = 1e-12


def interval(examples: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of scores.

    Args:
        examples: One score for each held-out example, in the unit of the quality.
        level: How often intervals made like this hold the true mean.
        seed: Of the draws.

    Returns:
        Its lower and its upper end, in the unit of the scores.

    Raises:
        BadInput: There are fewer than two scores, one is not finite, or the level is no share.
    """
    scores = np.asarray(examples, dtype=float)
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise BadInput(
            f"scores of shape {scores.shape}, {np.isfinite(scores).sum()} of them finite: "
            "expected one finite number an example, of two examples or more"
        )
    low, high = np.quantile(_means(scores[:, None], seed)[:, 0], ends(level))
    return float(low), float(high)


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


def ends(level: float) -> tuple[float, float]:
    """The shares of draws that lie below an interval's lower and its upper end.

    Raises:
        BadInput: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise BadInput(f"level={level!r}: expected a share between 0 and 1, such as 0.95")
    return (1 - level) / 2, (1 + level) / 2


def _within_noise(scores: Scores, shares: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which pairs of columns are tied, ``(candidates, candidates)``; no column with itself."""
    means = _means(scores, seed=0)
    count = means.shape[1]
    rounding = ROUNDING * np.abs(scores).max()
    ties = np.zeros((count, count), dtype=bool)
    for one in range(count - 1):
        # one candidate at a time: all pairs of hundreds of candidates would not fit into memory
        low, high = np.quantile(means[:, one, None] - means[:, one + 1 :], shares, axis=0)
        ties[one, one + 1 :] = (low <= rounding) & (high >= -rounding)
    return ties | ties.T


def _means(scores: Scores, seed: int) -> Scores:
    """The mean of each column in each draw of rows, the same draws for all columns.

    Args:
        scores: ``(examples, candidates)``.
        seed: Of the draws.

    Returns:
        ``(RESAMPLES, candidates)``.
    """
    count = len(scores)
    generator = np.random.default_rng(seed)
    blocks = []
    left = RESAMPLES
    while left:
        rows = min(left, max(1, BLOCK // count))
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        blocks.append(times.astype(float) @ scores / count)
        left -= rows
    return np.concatenate(blocks)
