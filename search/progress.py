"""What a person at a terminal sees while a study runs."""

from collections.abc import Callable, Iterator
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


@dataclass
class Bar:
    """One line: trials done, the front's size, its hypervolume, time, and what is going on."""

    progress: Progress
    task: TaskID

    def doing(self, what: str) -> None:
        """Show what the trial is at."""
        self.progress.update(self.task, doing=what)

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
