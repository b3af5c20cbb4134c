"""Products of sizes under one combination of policies: a space of any size in a few lists."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from math import inf, prod
from operator import itemgetter
from typing import Any

import numpy as np

from protege.spaces.architecture.architecture import Architecture

SizeTuple = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """Sizes that vary together, independently of all others, with their values as declared."""

    names: tuple[str, ...]
    values: tuple[SizeTuple, ...]

    @cached_property
    def known(self) -> frozenset[SizeTuple]:
        """The values as a set."""
        return frozenset(self.values)

    @cached_property
    def least(self) -> tuple[SizeTuple, ...]:
        """The Pareto-minimal values."""
        rows = np.array(self.values)
        smaller = ((rows <= row).all(1) & (rows < row).any(1) for row in rows)
        return tuple(v for v, rest in zip(self.values, smaller, strict=True) if not rest.any())

    def of(self, architecture: Architecture) -> SizeTuple:
        """Return an architecture's value."""
        return tuple(getattr(architecture, name) for name in self.names)

    def only(self, keeps: Callable[[SizeTuple], bool]) -> "Factor":
        """Return the factor with some of its values; itself if it keeps all."""
        kept = tuple(value for value in self.values if keeps(value))
        return self if len(kept) == len(self.values) else Factor(self.names, kept)


@dataclass(frozen=True, eq=False)
class Box:
    """All combinations of the values of its factors, of one family and under the same policies.

    Attributes:
        like: An architecture with these, whose sizes are replaced.
        factors: The depths, then the other sizes.
        hole: Values of the other sizes that are left out, as a student that keeps the teacher's has
            no width policy.
    """

    like: Architecture
    factors: tuple[Factor, ...]
    hole: tuple[SizeTuple, ...] = ()

    @property
    def count(self) -> int:
        """The number of members."""
        missing = self.hole and all(
            value in factor.known for value, factor in zip(self.hole, self.factors[1:], strict=True)
        )
        depths, *rest = (len(factor.values) for factor in self.factors)
        return depths * (prod(rest) - bool(missing))

    def __contains__(self, architecture: Architecture) -> bool:
        return policies_of(architecture) == policies_of(self.like) and self.has(
            tuple(factor.of(architecture) for factor in self.factors)
        )

    def has(self, values: tuple[SizeTuple, ...]) -> bool:
        """Return whether a combination of values, one for each factor, is in the box."""
        return values[1:] != self.hole and all(
            value in factor.known for value, factor in zip(values, self.factors, strict=True)
        )

    def at(self, values: Sequence[SizeTuple]) -> Architecture:
        """Return the architecture of a combination of values."""
        names = chain.from_iterable(factor.names for factor in self.factors)
        sizes: dict[str, Any] = dict(zip(names, chain.from_iterable(values), strict=True))
        return replace(self.like, **sizes)

    def within(self, lists: Sequence[Sequence[SizeTuple]]) -> Iterator[Architecture]:
        """Yield the members with values from these lists, one for each factor."""
        return (self.at(values) for values in product(*lists) if self.has(values))

    def star(self, centre: Sequence[SizeTuple]) -> Iterator[Architecture]:
        """Yield the members that differ from a combination of values in at most one factor."""
        for place, factor in enumerate(self.factors):
            lists = [[value] for value in centre]
            yield from self.within([*lists[:place], factor.values, *lists[place + 1 :]])

    def drawn(self, rng: np.random.RandomState) -> Architecture:
        """Draw a member at random."""
        while True:
            values = tuple(f.values[rng.randint(len(f.values))] for f in self.factors)
            if self.has(values):
                return self.at(values)


def policies_of(architecture: Architecture) -> tuple[object, ...]:
    """Return the family and the policies of an architecture."""
    own = architecture
    return own.model_type, own.layer_policy, own.width_policy, own.healing


def cheapest(
    boxes: Sequence[Box],
    cost: Callable[[str, int], float],
    policy_cost: Callable[[Architecture], float],
) -> Iterator[Architecture]:
    """Yield the members of boxes in the order of the sums of their costs, without listing them.

    Values and policies of infinite cost are left out.
    """
    factors = dict.fromkeys(chain.from_iterable(box.factors for box in boxes))
    ranked = {factor: _ranked(factor, cost) for factor in factors}
    each = (_by_cost(box, [ranked[f] for f in box.factors], policy_cost(box.like)) for box in boxes)
    return (member for _, member in heapq.merge(*each, key=itemgetter(0)))


def _ranked(factor: Factor, cost: Callable[[str, int], float]) -> list[tuple[float, SizeTuple]]:
    """Return the values of finite cost, the cheapest first."""
    sums = ((sum(map(cost, factor.names, value)), value) for value in factor.values)
    return sorted(pair for pair in sums if pair[0] < inf)


def _by_cost(
    box: Box, ranked: Sequence[Sequence[tuple[float, SizeTuple]]], extra: float
) -> Iterator[tuple[float, Architecture]]:
    """Yield a box's members by their costs, best first.

    The successors of a combination have the next value of one factor. To reach each combination
    once, only factors from the last moved one on are moved.
    """
    heap: list[tuple[float, tuple[int, ...]]] = []

    def push(places: tuple[int, ...]) -> None:
        pairs = list(zip(ranked, places, strict=True))
        if all(place < len(values) for values, place in pairs):
            heapq.heappush(heap, (extra + sum(values[at][0] for values, at in pairs), places))

    if extra < inf:
        push((0,) * len(ranked))
    while heap:
        total, places = heapq.heappop(heap)
        values = tuple(of[at][1] for of, at in zip(ranked, places, strict=True))
        if box.has(values):
            yield total, box.at(values)
        last = max((at for at, place in enumerate(places) if place), default=0)
        for moved in range(last, len(places)):
            push((*places[:moved], places[moved] + 1, *places[moved + 1 :]))
