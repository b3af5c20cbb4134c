"""A model of each objective over the sizes of the finished students, with its error.

Reports fill tables and maps with it where no student was tried. The sampler's own Gaussian
processes model all objectives at once in the coordinates of the space, which a study that is only
read does not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from protege.objectives.latency.predictor.residual import ResidualGP, Values
from protege.search.records.trial import Trial
from protege.spaces.space.knobs import SIZES

ENOUGH = 8
"""Measured architectures that a model of sizes needs."""

_FOLLOWERS = ("num_attention_heads", "num_key_value_heads")
"""Sizes that usually follow from the hidden size or from each other."""


def free_sizes(trials: Sequence[Trial]) -> list[str]:
    """Return the sizes in which trials differ, without heads that follow from another size."""
    columns = {name: [trial.architecture.get(name) for trial in trials] for name in SIZES}
    differ = {
        name: [float(value or 0) for value in column]
        for name, column in columns.items()
        if len(set(column)) > 1
    }
    leaders = ("hidden_size", *_FOLLOWERS)

    def follows(name: str) -> bool:
        before = leaders[: leaders.index(name)] if name in _FOLLOWERS else ()
        pairs = [zip(differ[name], differ[lead], strict=True) for lead in before if lead in differ]
        return any(len({own / lead for own, lead in pair if lead}) == 1 for pair in pairs)

    return [name for name in differ if not follows(name)]


@dataclass(frozen=True)
class SizeModel:
    """A linear model over logarithmic sizes, plus a Gaussian process of what it leaves.

    Positive values are modelled by their logarithm. Policies are left out: what they change is part
    of the error.

    Attributes:
        sizes: Names of the sizes.
        places: Their logarithms, ``(samples, sizes)``.
        values: The values or their logarithms, ``(samples,)``.
        is_log: Whether the values are logarithms.
        process: The Gaussian process of the residuals.
    """

    sizes: tuple[str, ...]
    places: Values
    values: Values
    is_log: bool
    process: ResidualGP

    @classmethod
    def fit(cls, trials: Sequence[Trial], objective: str, sizes: Sequence[str]) -> "SizeModel":
        """Fit the model to the trials' values of an objective; there must be at least `ENOUGH`."""
        places = np.log1p([[t.architecture.get(name) or 0 for name in sizes] for t in trials])
        values = np.array([trial.measurements[objective].value for trial in trials])
        is_log = bool((values > 0).all())
        values = np.asarray(np.log(values) if is_log else values, dtype=np.float64)
        terms = _terms(places)
        residuals = values - terms @ _weights(terms, values)
        return cls(tuple(sizes), places, values, is_log, ResidualGP.likeliest(places, residuals))

    def predict(self, sizes: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
        """Return the value at each of some sizes, and its standard error.

        The error is that of the Gaussian process there, and at least `left_out`.
        """
        asked = np.log1p([[float(one[name]) for name in self.sizes] for one in sizes])
        terms = _terms(self.places)
        weights = _weights(terms, self.values)
        residuals = self.values - terms @ weights
        means, errors = self.process.after_all(self.places, residuals, asked)
        found = _terms(asked) @ weights + means
        errors = np.maximum(errors, self.left_out)
        if self.is_log:
            found = np.exp(found)
            errors = found * errors
        return [(float(one), float(error)) for one, error in zip(found, errors, strict=True)]

    @cached_property
    def left_out(self) -> float:
        """The root mean square of the leave-one-out errors, relative if values are logarithms."""
        terms = _terms(self.places)
        rows = range(len(terms))
        # row i: the residuals of all samples under the weights fitted without sample i
        left = np.array(
            [
                self.values
                - terms @ _weights(np.delete(terms, at, axis=0), np.delete(self.values, at))
                for at in rows
            ]
        )
        means = (self.process.by_others(self.places) * left).sum(axis=1)
        return float(np.sqrt(np.mean((means - np.diag(left)) ** 2)))


def _terms(places: Values) -> Values:
    """Return the terms of the linear model, ``(samples, 1 + sizes)``."""
    return np.hstack([np.ones((len(places), 1)), places])


def _weights(terms: Values, values: Values) -> Values:
    """Return the weights of least squares, the smallest ones if several fit."""
    found: Values = np.linalg.lstsq(terms, values, rcond=None)[0].astype(np.float64)
    return found
