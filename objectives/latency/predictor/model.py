"""A model of latency, fitted to the measurements of a study, and predictions by it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import exp, fsum, isfinite
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from protege.objectives.latency.predictor.residual import ResidualGP, Values
from protege.objectives.latency.predictor.terms import Call, attention_width
from protege.objectives.measurement import Prediction
from protege.spaces import Architecture, BadInput, family_of
from protege.spaces.others.table import is_other

STEPS = {
    "num_hidden_layers": 1,
    "num_decoder_layers": 1,
    "hidden_size": 64,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "vocab_size": 1000,
}
"""The increment of each size in `LatencyModel.one_more`."""

ENOUGH = 15
"""Distinct sets of sizes that must be measured before the latency model is used."""

LEAST_MARGIN = 0.05
"""Minimum relative error margin of a prediction."""

CREDIBLE = 0.9
"""Quantile of the model's leave-one-out errors that the margin covers."""

Known = Iterable[tuple[Mapping[str, Any], float]]
"""Sizes and policies of measured candidates, each with its latency."""


class LatencySample(NamedTuple):
    """One architecture and its latency, in the same unit for all samples."""

    architecture: Architecture
    value: float


@dataclass(frozen=True)
class LatencyModel:
    """A nonnegative linear model of latency, times a smooth correction.

    The terms are those of `Call`; their weights minimise the relative error by nonnegative least
    squares (Lawson and Hanson, 1974). The logarithm of the residual ratio is a Gaussian process
    over the widths. It does not depend on depth, so more layers never lower a prediction.

    Attributes:
        call: The call that all samples were measured with.
        samples: One per set of sizes, ordered by size.
        process: The Gaussian process of the correction.
    """

    call: Call
    samples: tuple[LatencySample, ...]
    process: ResidualGP

    @classmethod
    def fit(cls, samples: Iterable[LatencySample], call: Call) -> "LatencyModel":
        """Fit the model; samples of equal sizes are averaged.

        Raises:
            BadInput: There is no sample, or a value is not a positive number.
        """
        merged = _merged(samples)
        table = _Table.of(merged, call)
        return cls(call, merged, ResidualGP.likeliest(table.places, table.residuals))

    def predict(self, architecture: Architecture) -> tuple[float, float]:
        """Return the predicted latency of an architecture and its standard error."""
        return self.predict_all([architecture])[0]

    def predict_all(self, architectures: Sequence[Architecture]) -> list[tuple[float, float]]:
        """Return the prediction of each architecture, as `predict` does."""
        own = self._table
        sums = [float(self.call.terms(one) @ own.weights) for one in architectures]
        asked = np.array([_place(one) for one in architectures])
        means, errors = self.process.after_all(own.places, own.residuals, asked)
        values = [of_sum * exp(mean) for of_sum, mean in zip(sums, means, strict=True)]
        return [(one, one * float(error)) for one, error in zip(values, errors, strict=True)]

    def leave_one_out(self) -> Values:
        """Return the relative leave-one-out error of each sample, ``(samples,)``.

        The weights and the correction are fitted without the sample; the two hyperparameters in
        `process` are kept.

        Raises:
            BadInput: There is only one sample.
        """
        own = self._table
        if len(self.samples) < 2:
            raise BadInput("one sample has no others to be predicted from; expected two or more")
        # row i: the residuals of all samples under the weights fitted without sample i
        left = np.array([own.left_by(own.without(at).weights) for at in range(len(self.samples))])
        means = (self.process.by_others(own.places) * left).sum(axis=1)
        errors: Values = np.exp(means - np.diag(left)) - 1
        return errors

    def one_more(self, architecture: Architecture) -> dict[str, float]:
        """Return the latency added by one increment of each size in `STEPS`.

        The correction stays that of `architecture`. Sizes without cost are left out.
        """
        value, _ = self.predict(architecture)
        of_sum = self.call.terms(architecture) @ self._table.weights
        free = family_of(architecture.model_type).knobs
        larger = {
            size: replace(architecture, **{size: getattr(architecture, size) + step})
            for size, step in STEPS.items()
            if size in free and getattr(architecture, size)
        }
        shares = {
            size: (self.call.terms(one) @ self._table.weights) / of_sum - 1
            for size, one in larger.items()
        }
        return {size: float(value * share) for size, share in shares.items() if share > 0}

    def knows(self, architecture: Architecture) -> bool:
        """Return whether a sample has the same sizes."""
        return recorded(architecture.fields()) in [one.architecture for one in self.samples]

    @cached_property
    def _table(self) -> "_Table":
        return _Table.of(self.samples, self.call)


@dataclass(frozen=True)
class _Table:
    """The samples as arrays, with the fit of the linear model.

    Attributes:
        terms: The terms of each call, ``(samples, terms)``.
        places: The logarithmic widths of each architecture, ``(samples, widths)``.
        values: The measured latencies, ``(samples,)``.
    """

    terms: Values
    places: Values
    values: Values

    @classmethod
    def of(cls, samples: tuple[LatencySample, ...], call: Call) -> "_Table":
        terms = np.array([call.terms(one.architecture) for one in samples])
        places = np.array([_place(one.architecture) for one in samples])
        return cls(terms, places, np.array([one.value for one in samples]))

    def without(self, at: int) -> "_Table":
        """Return the table without one row."""
        return _Table(*(np.delete(p, at, axis=0) for p in (self.terms, self.places, self.values)))

    @cached_property
    def weights(self) -> Values:
        """The nonnegative weights of the terms that minimise the relative error."""
        # terms differ by ten orders of magnitude; unscaled, the solver treats small ones as zero
        scale = np.maximum(self.terms.max(axis=0), 1.0)
        found, _ = nnls(self.terms / scale / self.values[:, None], np.ones(len(self.values)))
        weights: Values = found / scale
        return weights

    @cached_property
    def residuals(self) -> Values:
        """The log residuals of the fitted weights, ``(samples,)``."""
        return self.left_by(self.weights)

    def left_by(self, weights: Values) -> Values:
        """Return the logarithms of measured over predicted latency for some weights."""
        left: Values = np.log(self.values / (self.terms @ weights))
        return left


def recorded(given: Mapping[str, Any]) -> Architecture:
    """Return the architecture from `Architecture.fields`, reduced to what latency depends on."""
    names = {one.name for one in fields(Architecture)}
    sizes: dict[str, Any] = {"intermediate_size": 0, "vocab_size": 0}
    sizes |= {name: size for name, size in given.items() if isinstance(size, int) and name in names}
    return Architecture(given["model_type"], **sizes)


def _merged(samples: Iterable[LatencySample]) -> tuple[LatencySample, ...]:
    """Average samples of equal sizes, and order them by size."""
    found: dict[tuple[tuple[str, int], ...], tuple[Architecture, list[float]]] = {}
    for architecture, value in samples:
        if not (isfinite(value) and value > 0):
            raise BadInput(f"latency {value} of {architecture}: expected a positive number")
        sizes = architecture.sizes()
        found.setdefault(tuple(sizes.items()), (recorded(architecture.fields()), []))[1].append(
            value
        )
    if not found:
        raise BadInput("no latency was measured; expected one sample or more to learn from")
    ordered = (found[sizes] for sizes in sorted(found))
    # fsum is exact, so that the order of the samples does not matter
    return tuple(LatencySample(one, fsum(values) / len(values)) for one, values in ordered)


def _place(own: Architecture) -> Values:
    """Return the logarithms of an architecture's widths."""
    widths = [own.hidden_size, attention_width(own), own.num_key_value_heads]
    widths += [own.intermediate_size, own.moe_intermediate_size, own.vocab_size]
    place: Values = np.log1p(widths)
    return place


def model_of(known: Known, call: Call) -> LatencyModel | None:
    """Fit a latency model, or return None for fewer than `ENOUGH` sets of sizes."""
    samples = [LatencySample(recorded(fields), value) for fields, value in known]
    if len({one.architecture for one in samples}) < ENOUGH:
        return None
    return LatencyModel.fit(samples, call)


def predicted_beyond(
    architecture: Architecture, known: Known, call: Call, limit: float
) -> Prediction | None:
    """Return the prediction of an architecture if even its lower bound is over the limit.

    Sizes that were measured before, sizes predicted to be faster than all measured ones, and
    students of other families, whose layers are others, are never judged by a prediction.
    """
    if is_other(architecture):
        return None
    model = model_of(known, call)
    if model is None or model.knows(architecture):
        return None
    value, _ = model.predict(architecture)
    if value * (1 - LEAST_MARGIN) <= limit:
        return None  # within the limit even by the smallest margin
    if value < min(one.value for one in model.samples):
        return None  # extrapolation: faster than every sample
    wrong = float(np.quantile(np.abs(model.leave_one_out()), CREDIBLE))
    found = Prediction(value, max(wrong, LEAST_MARGIN), len(model.samples))
    return found if found.least > limit else None
