"""Bootstrap confidence intervals of the mean score over held-out examples.

Percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13):
examples are resampled with replacement, and the means of the resamples estimate the sampling
distribution of the mean.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from protege.spaces.errors import BadInput

Scores = npt.NDArray[np.float64]

RESAMPLES = 2000
BLOCK = 2**21
"""Scores resampled at a time, which bounds memory."""


def interval(examples: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean score.

    Args:
        examples: One score per held-out example.
        level: Confidence level, between 0 and 1.
        seed: Seed of the resampling.

    Returns:
        Lower and upper bound, in the unit of the scores.

    Raises:
        BadInput: There are no scores, a score is not finite, or the level is not between 0 and 1.
    """
    scores = np.asarray(examples, dtype=float)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise BadInput(
            f"scores of shape {scores.shape}, {np.isfinite(scores).sum()} of them finite: "
            "expected one finite number per example, and at least one example"
        )
    low, high = np.quantile(means(scores[:, None], seed)[:, 0], ends(level))
    return float(low), float(high)


def ends(level: float) -> tuple[float, float]:
    """Return the two quantiles that bound a central interval, such as (0.025, 0.975).

    Raises:
        BadInput: The level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise BadInput(f"level={level!r}: expected a share between 0 and 1, such as 0.95")
    return (1 - level) / 2, (1 + level) / 2


def means(scores: Scores, seed: int) -> Scores:
    """Compute bootstrap means of each column; all columns share the resampled rows.

    Args:
        scores: ``(examples, candidates)``.
        seed: Seed of the resampling.

    Returns:
        ``(RESAMPLES, candidates)``.
    """
    if len(scores) == 1:  # scipy refuses to resample a single row
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
