"""A model of latency, learned from what a study has measured so far."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import exp, fsum, isfinite
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from protege.objectives.latency.predictor.residual import Process, Values
from protege.objectives.latency.predictor.terms import Call, attention_width
from protege.spaces import Architecture, BadInput, family_of

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
"""One more of each size, as one would add it."""


class Sample(NamedTuple):
    """One architecture and its latency, in whatever unit all samples have."""

    architecture: Architecture
    value: float


@dataclass(frozen=True)
class LatencyModel:
    """A sum of terms that are never negative, times a smooth correction.

    The terms are those of `Call`; their weights are fitted to the relative error (Lawson and
    Hanson, 1974: NNLS). What is left, as a logarithm, is a Gaussian process over the widths. Depth
    is no part of it: layers add up, so that one more never makes a prediction smaller.

    Attributes:
        call: What the samples were asked to do, all of them the same.
        samples: One for each set of sizes, in an order that is their own.
        process: The process of the correction.
    """

    call: Call
    samples: tuple[Sample, ...]
    process: Process

    @classmethod
    def fit(cls, samples: Iterable[Sample], call: Call) -> "LatencyModel":
        """The model of these samples; those of one set of sizes count as one, by their mean.

        Raises:
            BadInput: There is no sample, or one of them is no positive number.
        """
        merged = _merged(samples)
        table = _Table.of(merged, call)
        return cls(call, merged, Process.likeliest(table.places, table.residuals))

    def predict(self, architecture: Architecture) -> tuple[float, float]:
        """The latency to expect of an architecture, and its standard error."""
        own = self._table
        of_sum = float(self.call.terms(architecture) @ own.weights)
        mean, error = self.process.after(own.places, own.residuals, _place(architecture))
        value = of_sum * exp(mean)
        return value, value * error

    def leave_one_out(self) -> Values:
        """How far what the others predict of each sample is from it, in shares of it.

        The weights are fitted again without the sample, and so is the correction, but for the two
        numbers of `process`.

        Raises:
            BadInput: There are no others.
        """
        own = self._table
        if len(self.samples) < 2:
            raise BadInput("one sample has no others to be predicted from; expected two or more")
        # row by row: what each sum without a sample leaves of all, and of that sample
        left = np.array([own.left_by(own.without(at).weights) for at in range(len(self.samples))])
        means = (self.process.by_others(own.places) * left).sum(axis=1)
        errors: Values = np.exp(means - np.diag(left)) - 1
        return errors

    def one_more(self, architecture: Architecture) -> dict[str, float]:
        """What one more of each size costs there, by the size; see `STEPS`.

        The correction is the architecture's own. Sizes that cost nothing are left out.
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
        """Whether a model of the same sizes is among the samples."""
        return recorded(architecture.fields()) in [one.architecture for one in self.samples]

    @cached_property
    def _table(self) -> "_Table":
        return _Table.of(self.samples, self.call)


@dataclass(frozen=True)
class _Table:
    """The samples as numbers, one row each: what the sum is fitted to, and what it leaves.

    Attributes:
        terms: Of each call, ``(samples, terms)``.
        places: Of each architecture, ``(samples, widths)``.
        values: What was measured, ``(samples,)``.
    """

    terms: Values
    places: Values
    values: Values

    @classmethod
    def of(cls, samples: tuple[Sample, ...], call: Call) -> "_Table":
        terms = np.array([call.terms(one.architecture) for one in samples])
        places = np.array([_place(one.architecture) for one in samples])
        return cls(terms, places, np.array([one.value for one in samples]))

    def without(self, at: int) -> "_Table":
        """All rows but one."""
        return _Table(*(np.delete(p, at, axis=0) for p in (self.terms, self.places, self.values)))

    @cached_property
    def weights(self) -> Values:
        """The weights of the terms, none of them negative, that make the relative error least."""
        # terms differ by ten orders of magnitude, which the solver would take for zeros
        scale = np.maximum(self.terms.max(axis=0), 1.0)
        found, _ = nnls(self.terms / scale / self.values[:, None], np.ones(len(self.values)))
        weights: Values = found / scale
        return weights

    @cached_property
    def residuals(self) -> Values:
        """What the sum leaves of each sample."""
        return self.left_by(self.weights)

    def left_by(self, weights: Values) -> Values:
        """Logarithms of what was measured over what a sum of these weights says."""
        left: Values = np.log(self.values / (self.terms @ weights))
        return left


def recorded(given: Mapping[str, Any]) -> Architecture:
    """The architecture of such `Architecture.fields`, with the sizes alone: latency has no more."""
    names = {one.name for one in fields(Architecture)}
    sizes: dict[str, Any] = {"intermediate_size": 0, "vocab_size": 0}
    sizes |= {name: size for name, size in given.items() if isinstance(size, int) and name in names}
    return Architecture(given["model_type"], **sizes)


def _merged(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """One sample for each set of sizes, ordered by them."""
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
    # an exact sum: the order in which samples come must change nothing
    return tuple(Sample(one, fsum(values) / len(values)) for one, values in ordered)


def _place(own: Architecture) -> Values:
    """Where the widths of an architecture lie, as logarithms."""
    widths = [own.hidden_size, attention_width(own), own.num_key_value_heads]
    widths += [own.intermediate_size, own.moe_intermediate_size, own.vocab_size]
    place: Values = np.log1p(widths)
    return place
