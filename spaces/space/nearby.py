"""Distances between members: of a listed space to every member, of a larger one by search."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.space.boxes import Box, Factor, SizeTuple, cheapest, policies_of
from protege.spaces.space.knobs import Knob, Params, Value, value_of

Some = Collection[Architecture]


class Listed:
    """Members that are few enough to be compared one by one, by the knobs in which they differ."""

    def __init__(self, members: Sequence[Architecture], knobs: Sequence[Knob]) -> None:
        self.members, self.knobs = members, knobs

    def nearest(self, params: Params, excluding: Some, holding: Params) -> Architecture | None:
        """Return the nearest member with the held values; None if there is none."""
        distance = np.abs(self._points - self._point(params)).sum(1)
        distance[self._found(excluding)] = np.inf
        for name, value in holding.items():
            distance[[value_of(member, name) != value for member in self.members]] = np.inf
        best = int(distance.argmin())
        return None if np.isinf(distance[best]) else self.members[best]

    def farthest(self, excluded: Some) -> Architecture | None:
        """Return the member farthest from its nearest excluded one; None if none is left."""
        distance = np.full(len(self.members), np.inf)
        for member in {*excluded}:
            own = self._point(member)
            distance = np.minimum(distance, np.abs(self._points - own).sum(1))
        distance[self._found(excluded)] = -np.inf
        best = int(distance.argmax())
        return None if np.isneginf(distance[best]) else self.members[best]

    def _found(self, members: Iterable[Architecture]) -> list[int]:
        return [self._numbers[member] for member in members if member in self._numbers]

    @cached_property
    def _numbers(self) -> dict[Architecture, int]:
        return {member: number for number, member in enumerate(self.members)}

    @cached_property
    def _points(self) -> npt.NDArray[np.float64]:
        """The members as points, ``(members, dimensions)``."""
        return np.stack([self._point(member) for member in self.members])

    def _point(self, given: Architecture | Params) -> npt.NDArray[np.float64]:
        """Return a point: sizes scaled to [0, 1], policies one-hot with weight 0.5."""
        point: list[float] = []
        for knob in self.knobs:
            value = given[knob.name] if isinstance(given, Mapping) else value_of(given, knob.name)
            if knob.is_size:
                low, high = int(knob.values[0]), int(knob.values[-1])
                point.append((int(value) - low) / (high - low))
            else:  # two policies differ in two dimensions, so their distance is 1
                point += [0.5 * (value == name) for name in knob.values]
        return np.array(point)


def searched(
    boxes: Sequence[Box], knobs: Sequence[Knob], params: Params, excluding: Some, holding: Params
) -> Architecture | None:
    """Find the nearest member of boxes with the held values without listing them."""
    ranges = {k.name: int(k.values[-1]) - int(k.values[0]) for k in knobs if k.is_size}
    chosen = [knob.name for knob in knobs if not knob.is_size]

    def cost(name: str, value: Value) -> float:
        if value != holding.get(name, value):
            return math.inf
        if name in ranges:
            return abs(int(value) - int(params[name])) / ranges[name]
        return float(name in chosen and value != params[name])

    def policy_cost(like: Architecture) -> float:
        return sum(cost(name, value_of(like, name)) for name in chosen)

    taken = {*excluding}
    found = cheapest(boxes, cost, policy_cost)
    return next((member for member in found if member not in taken), None)


def around(
    boxes: Sequence[Box], knobs: Sequence[Knob], member: Architecture, *, alone: bool
) -> list[Architecture]:
    """Return the neighbours of a member in the boxes of all members.

    They are at most one step away in every size, under all policies. If ``alone``, they differ in
    one factor, by one step or in one size by 2, 4, 8 and so on, and in at most one policy or in the
    family; those of a baseline that was not declared in any.
    """
    home = next(box for box in boxes if member in box)
    near: dict[Factor, Sequence[SizeTuple]] = {}
    found: dict[Architecture, None] = {}
    for box in boxes:
        pairs = zip(policies_of(member), policies_of(box.like), strict=True)
        if alone and home.count > 1 and sum(a != b for a, b in pairs) > 1:
            continue
        own: list[Sequence[SizeTuple]] = [[factor.of(member)] for factor in box.factors]
        for factor, (value,) in zip(box.factors, own, strict=True):
            near[factor] = near.get(factor) or _near(factor, value, knobs, alone=alone)
        every = [near[factor] for factor in box.factors]
        one_each = ([*own[:i], every[i], *own[i + 1 :]] for i in range(len(own)))
        for lists in one_each if alone else [every]:
            found |= dict.fromkeys(box.within(lists))
    return [*found]


def _near(
    factor: Factor, value: SizeTuple, knobs: Sequence[Knob], *, alone: bool
) -> list[SizeTuple]:
    """Return a factor's values at most a step away, or one size by a power of two if ``alone``."""
    values = {knob.name: knob.values for knob in knobs}
    columns = [place for place, name in enumerate(factor.names) if name in values]
    gaps = np.zeros((len(factor.values), len(columns)), dtype=np.intp)
    for column, place in enumerate(columns):
        rank = {size: at for at, size in enumerate(values[factor.names[place]])}
        gaps[:, column] = [abs(rank[o[place]] - rank[value[place]]) for o in factor.values]
    most = gaps.max(axis=1, initial=0)
    jumps = (gaps.sum(axis=1) == most) & (most & (most - 1) == 0)
    found = np.flatnonzero((most <= 1) | (jumps & alone))
    return [factor.values[number] for number in found.tolist()]
