"""Declare the sizes to try: one ratio, a range or choices."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from protege.spaces.architecture.sizes import check_ratio
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput


@checks_fields
@dataclass(frozen=True, repr=False)
class Range:
    """All ratios from one to another.

    Attributes:
        low: The smallest ratio to the teacher's size, above 0.
        high: The largest ratio, at most 1.
        step: Distance of neighbouring ratios. Without one a range has every whole number of layers
            and of experts, and eighths of the other sizes.
    """

    low: float
    high: float
    step: float | None = None

    def __repr__(self) -> str:
        step = "" if self.step is None else f", {self.step!r}"
        return f"Range({self.low!r}, {self.high!r}{step})"


@dataclass(frozen=True, init=False, repr=False)
class Choice:
    """A few values to choose from: ratios of a size, policies or ways of healing.

    Attributes:
        values: The values, in the order in which they were given.
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        return f"Choice({', '.join(map(repr, self.values))})"


Ratios: TypeAlias = float | Range | Choice
"""A number fixes a size, `Range` spans it and `Choice` lists ratios."""


def spread(name: str, declared: Ratios, default_step: Fraction) -> list[float]:
    """Return the ratios that a declaration stands for, ascending.

    A range without a step has multiples of the default step, counted from zero, so that over layers
    it has every whole number of layers.

    Raises:
        BadInput: A ratio is outside (0, 1], or the declaration has another form.
    """
    if isinstance(declared, Range):
        return _span(name, declared, default_step)
    if isinstance(declared, tuple | list):
        raise BadInput(f"{name}={declared!r}: expected a number, {_spelling(declared)}")
    choices = declared.values if isinstance(declared, Choice) else (declared,)
    for ratio in choices:
        check_ratio(name, ratio)
    if not choices:
        raise BadInput(f"{name}=Choice(): expected one or more ratios")
    return sorted(set(choices))


def _spelling(declared: tuple[Any, ...] | list[Any]) -> str:
    """Return what to write in place of a tuple or a list."""
    values = ", ".join(map(repr, declared))
    if isinstance(declared, tuple) and len(declared) in {2, 3}:
        return f"Range({values}) or Choice({values})"
    return f"Choice({values})"


def _span(name: str, declared: Range, default_step: Fraction) -> list[float]:
    for ratio in (declared.low, declared.high):
        check_ratio(name, ratio)
    if declared.low > declared.high:
        raise BadInput(f"{name}={declared!r}: expected the smaller ratio first")
    low, high = exact(declared.low), exact(declared.high)
    if declared.step is not None:
        check_ratio(f"{name} step", declared.step)
        start, step = low, exact(declared.step)
    else:
        # the first multiple of the step that is not below the range
        start, step = -(-low // default_step) * default_step, default_step
    ratios = {float(start + i * step) for i in range((high - start) // step + 1)}
    # a range includes its ends, wherever its steps fall; but no layer is ever cut in two
    whole = name in {"layers", "decoder_layers", "experts"} and declared.step is None
    return sorted(ratios if whole else ratios | {float(low), float(high)})


def exact(ratio: float) -> Fraction:
    """Return the fraction that a user meant by a decimal."""
    return Fraction(ratio).limit_denominator(10_000)
