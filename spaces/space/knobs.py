"""The declared ratios of a search space, its default policies, and its dimensions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias, Union

from protege.spaces.architecture.architecture import RATIOS, Architecture, check_ratio
from protege.spaces.architecture.layer_policies import Greedy
from protege.spaces.architecture.policies import Ends
from protege.spaces.architecture.unit_policies import Magnitude, Surgeon
from protege.spaces.errors import BadInput

WITH_DATA: Mapping[str, Any] = {
    "layer_policy": Greedy(),
    "width_policy": Surgeon(),
    "healing": "sequential",
}
"""Defaults with data, the best of ``python -m studies.benchmarks.start``."""

WITHOUT_DATA: Mapping[str, Any] = {
    "layer_policy": Ends(),
    "width_policy": Magnitude(),
    "healing": "none",
}
"""Defaults without data: evenly spaced layers with both ends, units of the largest weights."""

Ratios: TypeAlias = float | tuple[float, float] | tuple[float, float, float] | list[float]
"""A number fixes a knob, ``(low, high[, step])`` spans it, a list names choices."""


def spread(name: str, declared: Ratios, default_step: Fraction) -> list[float]:
    """Return the ratios of a declaration, ascending.

    Args:
        name: The knob, for messages.
        declared: The declaration.
        default_step: Step of a range without a step, counted from zero, so that a range of layers
            contains every integer number of layers.

    Raises:
        BadInput: A ratio is outside (0, 1], or the declaration has another form.
    """
    if isinstance(declared, tuple):
        return _span(name, declared, default_step)
    choices = declared if isinstance(declared, list) else [declared]
    for ratio in choices:
        check_ratio(name, ratio)
    if not choices:
        raise BadInput(f"{name}=[]: expected a ratio, (low, high[, step]) or a list of choices")
    return sorted(set(choices))


def _span(name: str, declared: tuple[float, ...], default_step: Fraction) -> list[float]:
    for ratio in declared[:2]:
        check_ratio(name, ratio)
    if len(declared) not in {2, 3} or declared[0] > declared[1]:
        raise BadInput(f"{name}={declared!r}: expected (low, high) or (low, high, step), low first")
    low, high = exact(declared[0]), exact(declared[1])
    if len(declared) == 3:
        check_ratio(f"{name} step", declared[2])
        start, step = low, exact(declared[2])
    else:
        # the first multiple of the step that is not below the range
        start, step = -(-low // default_step) * default_step, default_step
    ratios = {float(start + i * step) for i in range((high - start) // step + 1)}
    # a range includes its ends, except where only whole layers or experts count
    whole = name in {"layers", "decoder_layers", "experts"} and len(declared) == 2
    return sorted(ratios if whole else ratios | {float(low), float(high)})


def exact(ratio: float) -> Fraction:
    """Return the fraction that a decimal stands for, without floating-point error."""
    return Fraction(ratio).limit_denominator(10_000)


SIZES = tuple(RATIOS.values())
Value = Union[int, str]  # noqa: UP007 - an alias that is also used at run time
Params = Mapping[str, Value]


@dataclass(frozen=True)
class Knob:
    """One dimension of the search, named after the architecture field that it sets.

    Attributes:
        name: A size, ``layer_policy``, ``width_policy`` or ``healing``.
        values: All values among the members of the space; sizes ascending, others as declared.
    """

    name: str
    values: tuple[Value, ...]

    @property
    def is_size(self) -> bool:
        """Whether the values are integers; otherwise they are names of policies."""
        return self.name in SIZES

    @property
    def step(self) -> int:
        """The greatest common step between the values of a size."""
        sizes = [int(value) for value in self.values]
        return math.gcd(*(size - sizes[0] for size in sizes)) or 1


def value_of(architecture: Architecture, name: str) -> Value:
    """Return the architecture's value of a knob: a size, or the name of a policy."""
    value = getattr(architecture, name)
    return value if isinstance(value, int) else name_of(value)


def name_of(policy: Any) -> str:
    """Return the name of a policy or of a healing method."""
    return policy if isinstance(policy, str) else str(policy.name)
