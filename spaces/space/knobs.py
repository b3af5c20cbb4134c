"""The dimensions of a search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.sizes import RATIOS

SIZES = tuple(RATIOS.values())
POLICIES = ("layer_policy", "width_policy", "healing")
NAMED = (*POLICIES, "model_type")
"""Knobs whose values are names: of policies, and of the family."""

DEPENDENT = ("num_attention_heads", "num_key_value_heads", *POLICIES)
"""Knobs that usually follow from others and are left out if they do."""

SHOWN = 100
"""Values of a knob that its text lists; of more, it has the first two and the last."""

Value = Union[int, str]  # noqa: UP007 - an alias that is also used at run time
Params = Mapping[str, Value]


@dataclass(frozen=True)
class Knob:
    """One dimension of the search, named after the architecture field that it sets.

    Its values are those of all members of the space; sizes ascending, others as declared.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def is_size(self) -> bool:
        """Whether the values are integers; otherwise they are names."""
        return self.name in SIZES

    @property
    def step(self) -> int:
        """The greatest common step between the values of a size."""
        sizes = [int(value) for value in self.values]
        return math.gcd(*(size - sizes[0] for size in sizes)) or 1

    def __str__(self) -> str:
        shown = [*self.values]
        if len(shown) > SHOWN:
            shown[2:-1] = ["..."]
        return f"{self.name} {' '.join(map(str, shown))}"


def value_of(architecture: Architecture, name: str) -> Value:
    """Return the architecture's value of a knob: a size, or a name."""
    value = getattr(architecture, name)
    return value if isinstance(value, int) else name_of(value)


def name_of(policy: Any) -> str:
    """Return the name of a policy or of a healing method."""
    return policy if isinstance(policy, str) else str(policy.name)


def knobs_of(members: Sequence[Architecture]) -> tuple[Knob, ...]:
    """Return the dimensions in which members differ, without those that follow from others."""
    names = [*SIZES, *NAMED]
    table = [tuple(value_of(member, name) for name in names) for member in members]
    for dependent in DEPENDENT:
        column = names.index(dependent)
        rest = {row[:column] + row[column + 1 :] for row in table}
        if len(rest) == len(table):
            table = [row[:column] + row[column + 1 :] for row in table]
            names.pop(column)
    columns = zip(names, zip(*table, strict=True), strict=True)
    knobs = (
        Knob(name, tuple(sorted(set(column)) if name in SIZES else dict.fromkeys(column)))
        for name, column in columns
    )
    return tuple(knob for knob in knobs if len(knob.values) > 1)
