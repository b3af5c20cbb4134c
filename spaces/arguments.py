"""Arguments of the calls that users write: a wrong one is a `BadInput` that says what to give."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from protege.spaces.errors import BadInput

P = ParamSpec("P")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type[Any])

PATH = (str, PathLike)
"""What a path may be given as."""

_KINDS: Mapping[Any, tuple[type | tuple[type, ...], str]] = {
    int: (Real, "a whole number"),
    float: (Real, "a number"),
    int | None: ((Real, type(None)), "a whole number or None"),
    float | None: ((Real, type(None)), "a number or None"),
    str: (str, "text in quotes"),
    str | Path: (PATH, "a path, or text in quotes"),
    str | Path | None: ((*PATH, type(None)), "a path, or text in quotes"),
}
"""By declared type: what a value must be, and the words for it."""


def checks_fields(cls: Class) -> Class:
    """Decorate a dataclass: unknown and missing arguments, and text for numbers, are `BadInput`."""
    original, signature = cls.__init__, inspect.signature(cls)
    kinds = {one.name: _KINDS[one.type] for one in fields(cls) if one.type in _KINDS}
    advice = f"; {cls.__name__}.load(source) loads one" if hasattr(cls, "load") else ""

    @functools.wraps(original)
    def checked(self: Any, *values: Any, **named: Any) -> None:
        check_kinds(bound(cls.__name__, signature, values, named, advice), kinds)
        original(self, *values, **named)

    cls.__init__ = checked
    return cls


def checks_arguments(call: Callable[P, Result]) -> Callable[P, Result]:
    """Decorate a function: unknown and missing arguments, and text for numbers, are `BadInput`."""
    signature, name = inspect.signature(call), call.__qualname__
    declared = {name: one.annotation for name, one in signature.parameters.items()}
    kinds = {
        name: _KINDS[kind]
        for name, kind in declared.items()
        if kind in _KINDS and signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD
    }

    @functools.wraps(call)
    def checked(*values: P.args, **named: P.kwargs) -> Result:
        check_kinds(bound(name, signature, values, named), kinds)
        return call(*values, **named)

    return checked


def check_kinds(
    given: Mapping[str, Any], kinds: Mapping[str, tuple[type | tuple[type, ...], str]]
) -> None:
    """Check that arguments are of the declared kinds.

    Raises:
        BadInput: One is not.
    """
    for name, (kind, words) in kinds.items():
        if name in given and not isinstance(given[name], kind):
            raise BadInput(f"{name}={given[name]!r}: expected {words}")


def bound(
    call: str,
    signature: inspect.Signature,
    values: Sequence[Any],
    named: Mapping[str, Any],
    advice: str = "",
) -> dict[str, Any]:
    """Return the arguments of a call by name.

    Raises:
        BadInput: An argument is unknown, missing, or given twice.
    """
    try:
        return signature.bind(*values, **named).arguments
    except TypeError as error:
        raise BadInput(_explained(call, signature, named, error) + advice) from None


def _explained(
    call: str, signature: inspect.Signature, named: Mapping[str, Any], error: TypeError
) -> str:
    own = {name: one for name, one in signature.parameters.items() if name not in {"self", "cls"}}
    takes = f"{call} takes {', '.join(own)}" if own else f"{call} takes no arguments"
    unknown = [name for name in named if name not in own]
    if unknown:
        near = get_close_matches(unknown[0], own, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}=?" if near else "there is no such argument;"
        return f"{call}({unknown[0]}=...): {hint} {takes}"
    return f"{call}: {error}; {takes}"
