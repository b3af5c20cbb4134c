"""Terminal output: progress, messages, tables, time by phase."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from protege.search.display.output import Level, console_here, output
from protege.search.display.study import StudyProgress, on_clock
from protege.search.records.plain import printable
from protege.spaces.errors import without_secrets

if TYPE_CHECKING:  # `protege --help` starts without rich
    from rich.console import Console

USEFUL = (
    "latency",
    "measuring importance",
    "weight reconstruction",
    "caching teacher outputs",
    "distil",
    "evaluate",
)
"""Phases that measure, heal, train or evaluate; all others count as overhead."""


@contextmanager
def bar(
    name: str,
    trials: int,
    console: "Console | None" = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[StudyProgress]:
    """Show the progress of a study: live lines, or a line every 30 s without a terminal."""
    from protege.search.display.live import is_redrawn, live_lines, repeated_line

    console = console or console_here()
    shown = StudyProgress(name, trials, console, clock, output().level)
    if shown.level is Level.QUIET:
        yield shown
        return
    redrawn = is_redrawn(console)
    with (
        live_lines(console, shown.rows, keep=True)
        if redrawn
        else repeated_line(console, shown.line, clock)
    ):
        yield shown


@contextmanager
def watching(
    what: str,
    console: "Console | None" = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str], None]]:
    """Show the current phase: a transient line, or a line every 30 s without a terminal.

    Yields:
        A function that replaces the text.
    """
    from rich.text import Text

    from protege.search.display.live import is_redrawn, live_lines, repeated_line

    console, now, began = console or console_here(), [printable(what)], clock()

    def announce(doing: str) -> None:
        now[0] = printable(doing)

    if output().level is Level.QUIET:
        yield announce
        return

    def rows(_: int) -> list[Text]:
        return [Text(f"{on_clock(clock() - began)}  {now[0]}")]

    with (
        live_lines(console, rows, keep=False)
        if is_redrawn(console)
        else repeated_line(console, lambda: now[0], clock)
    ):
        yield announce


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Show at once that something is loaded, which takes PyTorch seconds."""
    if output().level > Level.QUIET and not sys.stderr.isatty():
        complain(f"loading {what} ...")
    with watching(f"loading {what}"):
        yield


def say(text: str) -> None:
    """Print the result of a command, with control characters escaped; nothing beside JSON."""
    if not output().is_json:
        print(printable(text, keep="\n"))  # noqa: T201 - the one place that prints results


def say_json(record: Mapping[str, Any]) -> None:
    """Print the result of a command as one JSON object, if JSON is asked for."""
    if output().is_json:
        print(json.dumps(_json(record), indent=1))  # noqa: T201 - beside `say`


def complain(text: str) -> None:
    """Print a message to stderr, with secrets hidden and control characters escaped."""
    shown = printable(without_secrets(text), keep="\n")
    with suppress(OSError):  # a terminal that is gone
        print(shown, file=sys.stderr)  # noqa: T201 - beside `say`, the one place that prints


def say_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table, without the columns that are None in every row."""
    if output().is_json:
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    named = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    table = Table(*(Column(Text(printable(name))) for name in named), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_text(row.get(name))) for name in named))
    # output that is not a terminal has no width to fit into
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _json(value: Any) -> Any:
    """Return a value as JSON knows it: None for NaN, text for paths."""
    if isinstance(value, Mapping):
        return {str(name): _json(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_json(own) for own in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else printable(value)


@dataclass(frozen=True)
class PhaseTimes:
    """Seconds of a study by phase.

    Attributes:
        seconds: By phase, over all runs of the study.
    """

    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Total seconds."""
        return sum(self.seconds.values())

    @property
    def overhead(self) -> float:
        """Share of the time outside `USEFUL` phases."""
        useful = sum(self.seconds.get(phase, 0.0) for phase in USEFUL)
        return 1 - useful / self.total if self.total else 0.0

    def __str__(self) -> str:
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        rows = [f"  {phase:<16}{s:>9.1f} s {s / self.total:>6.1%}" for phase, s in ordered]
        heading = f"Time: {self.total:.0f} s, {self.overhead:.1%} of it overhead"
        return "\n".join([heading, *rows])
