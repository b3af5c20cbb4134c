"""The members of a search space: listed if they are few, else found one by one."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product

import numpy as np

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.sizes import sizes_in
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.space.boxes import Box, Factor, SizeTuple
from protege.spaces.space.knobs import SIZES, Knob, Params, Value, knobs_of, value_of
from protege.spaces.space.nearby import Listed, around, searched

DRAWN = 1024
"""Members of a space that is not listed among which the farthest is looked for."""


class Members(ABC):
    """The architectures of a search space.

    They are the baselines and those in the boxes. Up to `listed` of them are listed and compared
    one by one; the methods of a larger space work on its lists of sizes, in time and memory that
    depend on their lengths only.
    """

    @property
    @abstractmethod
    def listed(self) -> int:
        """The number of members up to which a space is listed."""

    @property
    @abstractmethod
    def baselines(self) -> tuple[Architecture, ...]:
        """The teacher and the naive half."""

    @property
    @abstractmethod
    def factors(self) -> tuple[Factor, ...]:
        """The sizes of the declaration, the depths first."""

    @property
    @abstractmethod
    def boxes(self) -> tuple[Box, ...]:
        """The students of the declaration that are cut from the teacher, each in one box."""

    @property
    @abstractmethod
    def other_boxes(self) -> tuple[Box, ...]:
        """The students of other families."""

    @cached_property
    def all_boxes(self) -> tuple[Box, ...]:
        """The boxes of all members, those of baselines that were not declared first."""
        alone = (one for one in self.baselines if not any(one in box for box in self.boxes))
        own = (
            Box(one, tuple(Factor(f.names, (f.of(one),)) for f in self.factors)) for one in alone
        )
        return (*own, *self.boxes, *self.other_boxes)

    @cached_property
    def count(self) -> int:
        """The exact number of members."""
        return sum(box.count for box in self.all_boxes)

    @property
    def is_listed(self) -> bool:
        """Whether the members are listed."""
        return self.count <= self.listed

    def __len__(self) -> int:
        return min(self.count, sys.maxsize)  # the largest that Python allows

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self.members) if self.is_listed else self._each()

    def __contains__(self, architecture: object) -> bool:
        return isinstance(architecture, Architecture) and any(
            architecture in box for box in self.all_boxes
        )

    @cached_property
    def members(self) -> tuple[Architecture, ...]:
        """All members, the baselines first.

        Raises:
            BadInput: The space is too large to be listed.
        """
        if not self.is_listed:
            raise BadInput(
                f"{self.count:,} members are too many to list: iterate over the space, or use its "
                "`representatives`"
            )
        return tuple(self._each())

    def _each(self) -> Iterator[Architecture]:
        """Yield the baselines, then the declared students by size and policies, by family."""
        yield from self.baselines
        for values in product(*(factor.values for factor in self.factors)):
            for box in self.boxes:
                if box.has(values) and (member := box.at(values)) not in self.baselines:
                    yield member
        for box in self.other_boxes:
            yield from box.within([factor.values for factor in box.factors])

    @cached_property
    def representatives(self) -> tuple[Architecture, ...]:
        """Members that have every value of every size and every policy of the space.

        All members of a listed space. Of a larger one the baselines, those that are the smallest
        except in one factor, under all policies; the largest except in one factor; and those of
        a baseline's sizes except for the attention.
        """
        if self.is_listed:
            return self.members
        found = [*self.baselines]
        largest: dict[tuple[SizeTuple, ...], Architecture] = {}
        for box in (*self.boxes, *self.other_boxes):
            found += box.star([factor.values[0] for factor in box.factors])
            for member in box.star([factor.values[-1] for factor in box.factors]):
                largest.setdefault(tuple(factor.of(member) for factor in box.factors), member)
            for one in self.baselines:
                own = [[factor.of(one)] for factor in box.factors]
                found += box.within([own[0], box.factors[1].values, *own[2:]])
        return tuple(dict.fromkeys([*found, *largest.values()]))

    @cached_property
    def by_key(self) -> Mapping[str, Architecture]:
        """The members by `Architecture.key`."""
        if self.is_listed:
            return {member.key(): member for member in self.members}
        return _ByKey(self)

    @cached_property
    def smallest(self) -> tuple[Architecture, ...]:
        """The members with Pareto-minimal sizes, the first one of each size."""
        found: dict[SizeTuple, Architecture] = {}
        for box in self.all_boxes:
            for member in box.within([factor.least for factor in box.factors]):
                found.setdefault(tuple(getattr(member, name) for name in SIZES), member)
        least = Factor((), tuple(found)).least
        return tuple(found[sizes] for sizes in least)

    @property
    def least_vocab_size(self) -> int:
        """The vocabulary size of the smallest students."""
        return min(one.vocab_size for one in self.smallest)

    @property
    def looks_at_data(self) -> bool:
        """Whether building a member needs a calibration on data."""
        return any(one.looks_at_data for one in self.representatives)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """The dimensions in which members differ, without those that follow from others."""
        return knobs_of(self.representatives)

    def params(self, architecture: Architecture) -> dict[str, Value]:
        """Return the member's value of every knob."""
        return {knob.name: value_of(architecture, knob.name) for knob in self.knobs}

    def at(self, params: Params) -> Architecture:
        """Return the member with exactly these values.

        Raises:
            Infeasible: The space has no such member.
        """
        found = self.nearest(params)
        if self.params(found) != {knob.name: params[knob.name] for knob in self.knobs}:
            raise Infeasible(f"{dict(params)}: no member of the space; the nearest is {found}")
        return found

    def nearest(
        self,
        params: Params,
        excluding: Collection[Architecture] = frozenset(),
        holding: Params | None = None,
    ) -> Architecture:
        """Return the member nearest to the values.

        The distance is the sum over knobs: for a size its difference divided by the size's range,
        for a policy 1 if it differs. ``holding`` has values of some knobs that the member must
        have.

        Raises:
            Infeasible: Every such member is excluded.
        """
        boxes, listed, held = self.all_boxes, self._listed, holding or {}
        found = (
            listed.nearest(params, excluding, held)
            if listed
            else searched(boxes, self.knobs, params, excluding, held)
        )
        if found is None:
            raise Infeasible(f"all {len(self)} members of the space have been tried")
        return found

    def farthest(
        self, excluded: Collection[Architecture], among: Sequence[Architecture] = ()
    ) -> Architecture:
        """Return the member with the largest distance to its nearest excluded member.

        Members are those of ``among``; if it is empty all, or a sample of a space that is not
        listed.

        Raises:
            Infeasible: Every member is excluded.
        """
        listed = None if among else self._listed
        if listed is None:
            sample = among or self.drawn(DRAWN, np.random.RandomState(len(excluded)))
            listed = Listed(sample, self.knobs)
        return listed.farthest(excluded) or self.nearest(
            self.params(self.baselines[0]), excluding=excluded
        )

    def around(self, architecture: Architecture) -> list[Architecture]:
        """Return the neighbours of a member; see `nearby.around`."""
        return around(self.all_boxes, self.knobs, architecture, alone=not self.is_listed)

    def drawn(self, count: int, rng: np.random.RandomState) -> list[Architecture]:
        """Draw distinct members at random, at most `count`."""
        sizes = np.array([float(box.count) for box in self.all_boxes])
        numbers = rng.choice(len(sizes), count, p=sizes / sizes.sum())
        return [*dict.fromkeys(self.all_boxes[number].drawn(rng) for number in numbers)]

    @cached_property
    def _listed(self) -> Listed | None:
        return Listed(self.members, self.knobs) if self.is_listed else None


class _ByKey(Mapping[str, Architecture]):
    """The members of a space by key, found one by one."""

    def __init__(self, space: Members) -> None:
        self._space = space
        self._found: dict[str, Architecture] = {}

    def __getitem__(self, key: str) -> Architecture:
        if key not in self._found:
            self._found[key] = self._search(key)
        return self._found[key]

    def _search(self, key: str) -> Architecture:
        sizes = sizes_in(key)
        for box in self._space.all_boxes:
            # a size that the teacher lacks is not part of a key
            values = tuple(
                tuple(sizes[name] if getattr(box.like, name) else 0 for name in factor.names)
                for factor in box.factors
            )
            if box.has(values) and (member := box.at(values)).key() == key:
                return member
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return (member.key() for member in self._space)

    def __len__(self) -> int:
        return len(self._space)
