"""The dimensions of a search, as a sampler sees them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Union

from protege.spaces.architecture.architecture import RATIOS, Architecture

SIZES = tuple(RATIOS.values())
Value = Union[int, str]  # noqa: UP007 - an alias that is also used at run time
Params = Mapping[str, Value]


class Suggests(Protocol):
    """What `SearchSpace.sample` needs of a trial; Optuna's have it, live, frozen or fixed."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any: ...


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

    def suggest(self, trial: Suggests) -> Value:
        """The trial's value; of a size it may be one between two members."""
        if not self.is_size:
            return str(trial.suggest_categorical(self.name, [str(v) for v in self.values]))
        low, high = int(self.values[0]), int(self.values[-1])
        return trial.suggest_int(self.name, low, high, step=self.step)


def value_of(architecture: Architecture, name: str) -> Value:
    """The architecture's value of a knob: a size, or the name of a policy."""
    value = getattr(architecture, name)
    return value if isinstance(value, int) else name_of(value)


def name_of(policy: Any) -> str:
    """What a policy is called, or a way of healing."""
    return policy if isinstance(policy, str) else str(policy.name)
