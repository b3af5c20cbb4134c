"""The dimensions of a search, as a sampler sees them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from protege.spaces.architecture.architecture import RATIOS, Architecture

SIZES = tuple(RATIOS.values())
Value = Union[int, str]  # noqa: UP007 - an alias that is also used at run time
Params = Mapping[str, Value]


@dataclass(frozen=True)
class Knob:
    """One dimension of the search, under the name of the configuration field it sets.

    Attributes:
        name: A size, ``layer_policy``, ``width_policy`` or ``healing``.
        values: All values that some member of the space has, ascending or as declared.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def is_size(self) -> bool:
        """Whether the values are whole numbers; otherwise they are names of policies."""
        return self.name in SIZES

    @property
    def step(self) -> int:
        """The widest step that meets every value of a size."""
        sizes = [int(value) for value in self.values]
        return math.gcd(*(size - sizes[0] for size in sizes)) or 1


def value_of(architecture: Architecture, name: str) -> Value:
    """The architecture's value of a knob: a size, or the name of a policy."""
    value = getattr(architecture, name)
    return value if isinstance(value, int) else name_of(value)


def name_of(policy: Any) -> str:
    """What a policy is called, or a way of healing."""
    return policy if isinstance(policy, str) else str(policy.name)
