"""What a person at a terminal sees while a study runs."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from protege.spaces.redaction import without_secrets


@dataclass
class Bar:
    """One line: trials done, the front's size, its hypervolume, time, and what is going on."""

    progress: Progress
    task: TaskID

    def doing(self, what: str) -> None:
        """Show what the trial is at."""
        self.progress.update(self.task, doing=what)

    def tell(self, line: str) -> None:
        """Print a line above the bar; as plain text where the output is not a terminal."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def done(self, trials: int, front: int, hypervolume: float) -> None:
        """Show where the study stands."""
        self.progress.update(
            self.task, completed=trials, front=f"front {front}", volume=f"HV {hypervolume:.3f}"
        )


@contextmanager
def bar(name: str, trials: int, console: Console | None = None) -> Iterator[Bar]:
    """A bar over the trials of a study; nothing at all where the output is not a terminal."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[front]}"),
        TextColumn("{task.fields[volume]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[doing]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=trials, front="", volume="", doing="starting")
        yield Bar(progress, task)


@contextmanager
def watching(what: str, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, gone when it ends; none where nobody watches."""
    console = console or Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda doing: progress.update(task, description=doing)


def say(text: str) -> None:
    """Print what a command has found."""
    print(text)  # noqa: T201 - the one place that talks to a person


def complain(text: str) -> None:
    """Print a warning, an error or a note to stderr; passwords and tokens in it are hidden."""
    print(without_secrets(text), file=sys.stderr)  # noqa: T201 - beside `say`, the one place that does


def say_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows under the names of their columns; one that no row has anything for is left out."""
    named = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    table = Table(*named, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_told(row.get(name)) for name in named))
    # as wide as it needs to be where nobody's window bounds it
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
