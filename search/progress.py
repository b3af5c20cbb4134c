"""Terminal output: progress bar, messages, tables, time by phase."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protege.search.records.plain import printable
from protege.spaces.redaction import without_secrets

if TYPE_CHECKING:  # `protege --help` starts without rich
    from rich.console import Console
    from rich.progress import Progress, TaskID

USEFUL = ("latency", "calibrate", "heal", "teacher answers", "distil", "evaluate")
"""Phases that measure, heal, train or evaluate; all others count as overhead."""


@dataclass
class Bar:
    """A progress bar: trials done, front size, hypervolume, time, current phase."""

    progress: "Progress"
    task: "TaskID"

    def doing(self, what: str) -> None:
        """Show the current phase."""
        self.progress.update(self.task, doing=printable(what))

    def tell(self, line: str) -> None:
        """Print a line above the bar, or plainly if the output is not a terminal."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def done(self, trials: int, front: int, hypervolume: float) -> None:
        """Show the number of finished trials, the size of the front and its hypervolume."""
        self.progress.update(
            self.task, completed=trials, front=f"front {front}", volume=f"HV {hypervolume:.3f}"
        )


@contextmanager
def bar(name: str, trials: int, console: "Console | None" = None) -> Iterator[Bar]:
    """Show a progress bar over the trials; nothing if the output is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[front]}"),
        TextColumn("{task.fields[volume]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[doing]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(name), total=trials, front="", volume="", doing="")
        progress.update(task, doing="starting")
        yield Bar(progress, task)


@contextmanager
def watching(what: str, console: "Console | None" = None) -> Iterator[Callable[[str], None]]:
    """Show a transient status line; nothing if the output is not a terminal.

    Yields:
        A function that replaces the text of the line.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True)
    doing_now = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), doing_now, TimeElapsedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(printable(what))
        yield lambda doing: progress.update(task, description=printable(doing))


def say(text: str) -> None:
    """Print the result of a command, with control characters escaped."""
    print(printable(text, keep="\n"))  # noqa: T201 - the one place that prints results


def complain(text: str) -> None:
    """Print a message to stderr, with secrets hidden and control characters escaped."""
    shown = printable(without_secrets(text), keep="\n")
    with suppress(OSError):  # a terminal that is gone
        print(shown, file=sys.stderr)  # noqa: T201 - beside `say`, the one place that prints


def say_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table, without the columns that are None in every row."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    named = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    table = Table(*(Column(Text(printable(name))) for name in named), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_text(row.get(name))) for name in named))
    # output that is not a terminal has no width to fit into
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else printable(value)


@dataclass(frozen=True)
class Accounting:
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
