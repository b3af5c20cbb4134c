"""Whole numbers as arguments."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token, validators


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """Parse a whole number; cyclopts alone would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[Whole, Parameter(validator=validators.Number(gte=1))]
