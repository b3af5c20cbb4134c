"""Expand declared ratios: one ratio, a range, a range with a step, or a list of choices."""

from fractions import Fraction
from typing import TypeAlias

from protege.spaces.architecture.architecture import check_ratio
from protege.spaces.errors import BadInput

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
