"""What a figure over a sample of examples may be off by, without assuming how it is spread."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000

Weights = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def weights(examples: int, seed: int = 0) -> Weights:
    """How much each example counts in each resample, ``(RESAMPLES, examples)``; rows sum up to 1.

    The same for all that is looked at with it: differences between two candidates are paired
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Koehn 2004, aclanthology
    W04-3250).
    """
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES)
    found: Weights = drawn / examples
    return found


def means(examples: Sequence[float], seed: int = 0) -> Weights:
    """The mean of every resample, ``(RESAMPLES,)``."""
    found: Weights = weights(len(examples), seed) @ np.asarray(examples, dtype=float)
    return found


def interval(examples: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean that covers it with that probability, about."""
    tail = (1 - level) / 2
    low, high = np.quantile(means(examples, seed), [tail, 1 - tail])
    return float(low), float(high)
