"""Distances between members: of a listed space to every member, of a larger one by search."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.space.boxes import Box, Factor, SizeTuple, cheapest, policies_of
from protege.spaces.space.knobs import Knob, Params, Value, value_of

Architectures = Collection[Architecture]


class Listed:
    """Members that are few enough to be compared one by one.

    Attributes:
        members: The members.
        knobs: The dimensions in which they differ.
    """

    def __init__(self, members: Sequence[Architecture], knobs: Sequence[Knob]) -> None:
        self.members, self.knobs = members, knobs

    def nearest(
        self, params: Params, excluding: Architectures, holding: Params
    ) -> Architecture | None:
        """Return the nearest member with the held values; None if there is none."""
        distance = np.abs(self._points - self._point(params)).sum(1)
        distance[self._found(excluding)] = np.inf
        for name, value in holding.items():
            distance[[value_of(member, name) != value for member in self.members]] = np.inf
        best = int(distance.argmin())
        return None if np.isinf(distance[best]) else self.members[best]

    def farthest(self, excluded: Architectures) -> Architecture | None:
        """Return the member farthest from its nearest excluded one; None if none is left."""
        distance = np.full(len(self.members), np.inf)
        for member in {*excluded}:
            own = self._point(member)
            distance = np.minimum(distance, np.abs(self._points - own).sum(1))
        distance[self._found(excluded)] = -np.inf
        best = int(distance.argmax())
        return None if np.isneginf(distance[best]) else self.members[best]

    def around(self, member: Architecture) -> list[Architecture]:
        """Return the members at most one step away in every size."""
        near = (np.abs(self._ranks - self._ranks[self._numbers[member]]) <= 1).all(axis=1)
        return [self.members[number] for number in np.flatnonzero(near).tolist()]

    def _found(self, members: Iterable[Architecture]) -> list[int]:
        return [self._numbers[member] for member in members if member in self._numbers]

    @cached_property
    def _numbers(self) -> dict[Architecture, int]:
        return {member: number for number, member in enumerate(self.members)}

    @cached_property
    def _points(self) -> npt.NDArray[np.float64]:
        """The members as points, ``(members, dimensions)``."""
        return np.stack([self._point(member) for member in self.members])

    @cached_property
    def _ranks(self) -> npt.NDArray[np.intp]:
        """Each member's index among the values of each size, ``(members, sizes)``."""
        sizes = [knob for knob in self.knobs if knob.is_size]
        ranks = [{value: at for at, value in enumerate(knob.values)} for knob in sizes]
        rows = [
            [rank[value_of(one, knob.name)] for knob, rank in zip(sizes, ranks, strict=True)]
            for one in self.members
        ]
        return np.array(rows, dtype=np.intp).reshape(len(rows), len(sizes))

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


class Unlisted:
    """Members that are too many to be compared one by one.

    Attributes:
        boxes: The boxes that contain them.
        knobs: The dimensions in which they differ.
    """

    def __init__(self, boxes: Sequence[Box], knobs: Sequence[Knob]) -> None:
        self.boxes, self.knobs = boxes, knobs

    def nearest(
        self, params: Params, excluding: Architectures, holding: Params
    ) -> Architecture | None:
        """Return the nearest member with the held values; None if there is none."""
        ranges = {k.name: int(k.values[-1]) - int(k.values[0]) for k in self.knobs if k.is_size}
        chosen = [knob.name for knob in self.knobs if not knob.is_size]

        def cost(name: str, value: Value) -> float:
            if value != holding.get(name, value):
                return math.inf
            if name in ranges:
                return abs(int(value) - int(params[name])) / ranges[name]
            return float(name in chosen and value != params[name])

        def policy_cost(like: Architecture) -> float:
            return sum(cost(name, value_of(like, name)) for name in chosen)

        taken = {*excluding}
        found = cheapest(self.boxes, cost, policy_cost)
        return next((member for member in found if member not in taken), None)

    def around(self, member: Architecture) -> list[Architecture]:
        """Return the members that differ in one factor (see `_near`) and in at most one policy.

        A baseline has the neighbours of its sizes under all policies.
        """
        home = next(box for box in self.boxes if member in box)
        policies = policies_of(member)
        near: dict[Factor, list[SizeTuple]] = {}
        found: dict[Architecture, None] = {}
        for box in self.boxes:
            same = sum(a == b for a, b in zip(policies, policies_of(box.like), strict=True))
            if same < 2 and home.count > 1:
                continue
            own = [[factor.of(member)] for factor in box.factors]
            for place, factor in enumerate(box.factors):
                near[factor] = near.get(factor) or self._near(factor, own[place][0])
                lists = [*own[:place], near[factor], *own[place + 1 :]]
                found |= dict.fromkeys(box.within(lists))
        return [*found]

    def _near(self, factor: Factor, value: SizeTuple) -> list[SizeTuple]:
        """Return the values at most one step away, and those where one size is 2, 4, 8... away."""
        knobs = {knob.name: knob.values for knob in self.knobs}
        columns = [place for place, name in enumerate(factor.names) if name in knobs]
        gaps = np.zeros((len(factor.values), len(columns)), dtype=np.intp)
        for column, place in enumerate(columns):
            rank = {size: at for at, size in enumerate(knobs[factor.names[place]])}
            gaps[:, column] = [abs(rank[o[place]] - rank[value[place]]) for o in factor.values]
        most = gaps.max(axis=1, initial=0)
        alone = (gaps.sum(axis=1) == most) & (most & (most - 1) == 0)
        return [factor.values[number] for number in np.flatnonzero((most <= 1) | alone)]

    def drawn(self, count: int, rng: np.random.RandomState) -> list[Architecture]:
        """Draw distinct members at random, at most `count`."""
        sizes = np.array([float(box.count) for box in self.boxes])
        numbers = rng.choice(len(sizes), count, p=sizes / sizes.sum())
        return [*dict.fromkeys(self.boxes[number].drawn(rng) for number in numbers)]
