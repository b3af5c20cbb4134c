"""What held-out examples can tell of quality: how far the mean of their scores may be off.

The bootstrap of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13): the
examples are drawn again with replacement, many times over, and the means of the draws show how far
the mean could have been off, whatever the distribution of the scores.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from protege.spaces.errors import BadInput

Scores = npt.NDArray[np.float64]

RESAMPLES = 2000
# Scores that are drawn at a time.
BLOCK = 2**21


def interval(examples: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of scores.

    Args:
        examples: One score for each held-out example, in the unit of the quality.
        level: How often intervals made like this hold the true mean.
        seed: Of the draws.

    Returns:
        Its lower and its upper end, in the unit of the scores.

    Raises:
        BadInput: There is no score, one is not finite, or the level is no share.
    """
    scores = np.asarray(examples, dtype=float)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise BadInput(
            f"scores of shape {scores.shape}, {np.isfinite(scores).sum()} of them finite: "
            "expected one finite number an example, of an example or more"
        )
    low, high = np.quantile(means(scores[:, None], seed)[:, 0], ends(level))
    return float(low), float(high)


def ends(level: float) -> tuple[float, float]:
    """The shares of draws that lie below an interval's lower and its upper end.

    Raises:
        BadInput: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise BadInput(f"level={level!r}: expected a share between 0 and 1, such as 0.95")
    return (1 - level) / 2, (1 + level) / 2


def means(scores: Scores, seed: int) -> Scores:
    """The mean of each column in each draw of rows, the same draws for all columns.

    Args:
        scores: ``(examples, candidates)``.
        seed: Of the draws.

    Returns:
        ``(RESAMPLES, candidates)``.
    """
    if len(scores) == 1:  # scipy draws from two or more
        return np.repeat(scores, RESAMPLES, axis=0)
    drawn = bootstrap(
        (np.arange(len(scores)),),
        lambda rows, axis: scores.T[:, rows].mean(axis=axis),
        n_resamples=RESAMPLES,
        batch=max(1, BLOCK // scores.size),
        vectorized=True,
        method="percentile",
        rng=seed,
    )
    found: Scores = drawn.bootstrap_distribution.T
    return found
