"""Terminal output: progress, messages, tables, time by phase."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from protege.search.records.plain import printable
from protege.spaces.errors import without_secrets
from protege.spaces.remaining import Remaining

if TYPE_CHECKING:  # `protege --help` starts without rich
    from rich.console import Console
    from rich.progress import Progress, TaskID

USEFUL = ("latency", "calibrate", "heal", "teacher answers", "distil", "evaluate")
"""Phases that measure, heal, train or evaluate; all others count as overhead."""

LINE_S = 30.0
"""Seconds between two lines of progress, if the output is not a terminal."""

POLL_S = 1.0
"""Seconds between two looks at the clock."""


@dataclass
class StudyProgress:
    """The progress of a study: trials done, front size, hypervolume, time left, current phase.

    Attributes:
        progress: Shows it on a terminal.
        task: The study in `progress`.
        total: Number of trials.
        clock: Returns the time in seconds.
    """

    progress: "Progress"
    task: "TaskID"
    total: int
    clock: Callable[[], float]
    _first: int = field(default=0, init=False)
    _remaining: Remaining | None = field(default=None, init=False)

    def doing(self, what: str) -> None:
        """Show the current phase."""
        self.progress.update(self.task, doing=printable(what), left=self.left())

    def tell(self, line: str) -> None:
        """Print a line above the bar, or plainly if the output is not a terminal."""
        _print(self.progress.console, line)

    def ended(self, line: str) -> None:
        """Print a line on a trial that ended, which stays above the bar."""
        self.tell(f"{self.progress.tasks[self.task].description}: {printable(line)}")

    def done(self, trials: int, front: int, hypervolume: float) -> None:
        """Show the number of finished trials, the size of the front and its hypervolume.

        Args:
            trials: Number of finished trials; the time left is estimated from those since the
                first call.
            front: Number of trials on the front.
            hypervolume: Its hypervolume.
        """
        if self._remaining is None:
            self._first, self._remaining = trials, Remaining(self.tell, "", self.clock)
        self.progress.update(self.task, completed=trials)
        volume = f"HV {hypervolume:.3f}"
        self.progress.update(self.task, front=f"front {front}", volume=volume, left=self.left())

    def left(self) -> str:
        """Return the estimated time left; empty before a trial is finished."""
        done = self.progress.tasks[self.task].completed - self._first
        if self._remaining is None or done <= 0:
            return ""
        return self._remaining.left(done / (self.total - self._first)).removeprefix(", ")

    def line(self) -> str:
        """Return the progress as a line."""
        task = self.progress.tasks[self.task]
        done = f"{task.completed:.0f}/{self.total} trials"
        shown = [done, task.fields["front"], task.fields["volume"], self.left()]
        return f"{task.description}: {', '.join(filter(None, [*shown, task.fields['doing']]))}"


@contextmanager
def bar(
    name: str,
    trials: int,
    console: "Console | None" = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[StudyProgress]:
    """Show the progress of a study: a bar, or lines if the output is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[front]}"),
        TextColumn("{task.fields[volume]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[doing]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        # all fields at once: another thread draws them
        fields: dict[str, Any] = {"front": "", "volume": "", "left": "", "doing": "starting"}
        task = progress.add_task(printable(name), total=trials, **fields)
        shown = StudyProgress(progress, task, trials, clock)
        with _lines(shown.line, console, clock):
            yield shown


@contextmanager
def watching(
    what: str,
    console: "Console | None" = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[str], None]]:
    """Show the current phase: a transient status, or lines if the output is not a terminal.

    Yields:
        A function that replaces the text.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True)
    doing_now = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), doing_now, TimeElapsedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(printable(what))
        with _lines(lambda: progress.tasks[task].description, console, clock):
            yield lambda doing: progress.update(task, description=printable(doing))


@contextmanager
def _lines(
    line: Callable[[], str], console: "Console", clock: Callable[[], float]
) -> Iterator[None]:
    """Print a line every `LINE_S` seconds in the block, unless the output is a terminal."""
    ended, began = threading.Event(), clock()

    def repeat() -> None:
        last = began
        while not ended.wait(POLL_S):
            if clock() - last >= LINE_S:
                last = clock()
                with suppress(OSError):  # a terminal that is gone
                    _print(console, line())

    thread = threading.Thread(target=repeat, daemon=True)
    if not console.is_terminal:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


def _print(console: "Console", line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


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
