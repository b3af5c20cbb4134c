"""How much a command shows, and where: quiet, verbose, JSON, terminals and notebooks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `protege --help` starts without rich
    from rich.console import Console


class Level(IntEnum):
    """How much is shown while a command works."""

    QUIET = 0
    """Only the result and errors."""
    NORMAL = 1
    """Progress, and a line for every trial that ends."""
    VERBOSE = 2
    """A line for every phase and every rung too."""


@dataclass(frozen=True)
class Output:
    """What the running command shows.

    Attributes:
        level: How much it shows while it works.
        is_json: Whether its result is one JSON object in place of text.
    """

    level: Level = Level.NORMAL
    is_json: bool = False


_CURRENT = ContextVar("output", default=Output())  # noqa: B039 - frozen


def output() -> Output:
    """Return what the running command shows."""
    return _CURRENT.get()


@contextmanager
def showing(given: Output) -> Iterator[None]:
    """Show that in the block."""
    before = _CURRENT.set(given)
    try:
        yield
    finally:
        _CURRENT.reset(before)


def console_here() -> "Console":
    """Return the console for progress: stderr, or the cell's output in a notebook."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_jupyter:
        return console
    # as text: rich would make an HTML block of every line, and notebooks paint stderr red
    return Console(file=sys.stdout, force_jupyter=False, force_terminal=False, width=120)
