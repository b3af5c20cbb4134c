"""The progress of a study, as the lines of a terminal or of a log."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protege.search.display.output import Level
from protege.search.display.pace import Pace
from protege.search.records.plain import printable
from protege.spaces.remaining import duration

if TYPE_CHECKING:  # `protege --help` starts without rich
    from rich.console import Console
    from rich.text import Text

BAR = 24
"""Maximum width of the bar."""


@dataclass
class RunningTrial:
    """A trial that runs.

    Attributes:
        sizes: Its sizes, such as ``4x384-h12-f768``.
        doing: Its current phase.
    """

    sizes: str
    doing: str = "starting"


@dataclass
class StudyProgress:
    """The progress of a study: trials done, front, hypervolume, time left, running trials.

    Attributes:
        name: The study.
        total: Number of trials.
        console: Where it is shown; None shows nothing.
        clock: Returns the time in seconds.
        level: How much is shown.
    """

    name: str = ""
    total: int = 0
    console: "Console | None" = None
    clock: Callable[[], float] = time.monotonic
    level: Level = Level.NORMAL
    pace: Pace = field(init=False)
    _done: int = field(default=0, init=False)
    _front: str = field(default="", init=False)
    _volume: str = field(default="", init=False)
    _doing: str = field(default="starting", init=False)
    _running: dict[int, RunningTrial] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.name = printable(self.name)
        self.pace = Pace(self.total, self.clock)
        self._began = self.clock()

    def doing(self, what: str, trial: int | None = None) -> None:
        """Show the current phase of the study, or of one of its running trials."""
        shown = printable(what)
        if what == "other":
            return
        one = None if trial is None else self._running.get(trial)
        before = self._doing if one is None else one.doing
        if one is None:
            self._doing = shown
        else:
            one.doing = shown
        if self.level is Level.VERBOSE and _phase(shown) != _phase(before):
            self.tell(f"{self.name}: {self._of(trial)}{_phase(shown)}")

    def run(self, trial: int, sizes: str) -> None:
        """Show a trial that begins, or goes on from a rung."""
        self.pace.run(trial)
        self._running[trial] = RunningTrial(printable(sizes))

    def wait(self, trial: int) -> None:
        """Hide a trial that waits at a rung, or for another worker."""
        self.pace.wait(trial)
        self._running.pop(trial, None)

    def rung(self, trial: int, step: int, values: Mapping[str, float]) -> None:
        """Show that a trial reached a rung, and its values there."""
        if self.level is Level.VERBOSE:
            shown = ", ".join(f"{printable(name)} {value:.4g}" for name, value in values.items())
            self.tell(f"{self.name}: {self._of(trial)}rung at step {step}, {shown}")
        self.wait(trial)

    def tell(self, line: str) -> None:
        """Print a line above the running trials."""
        from protege.search.display.live import plain_line

        if self.console is not None and self.level > Level.QUIET:
            plain_line(self.console, line)

    def ended(self, trial: int, line: str = "") -> None:
        """Remove a trial that ended, and print a line on it, which stays."""
        self.pace.end(trial)
        self._running.pop(trial, None)
        if line:
            self.tell(f"{self.name}: {printable(line)}")

    def done(self, trials: int, front: int, hypervolume: float) -> None:
        """Show the number of finished trials, the size of the front and its hypervolume.

        Args:
            trials: Number of finished trials; the time left is estimated from those since the
                first call.
            front: Number of trials on the front.
            hypervolume: Its hypervolume.
        """
        self.pace.done(trials)
        self._done, self._front, self._volume = trials, f"front {front}", f"HV {hypervolume:.3f}"

    def left(self) -> str:
        """Return the estimated time left; empty before a trial is finished."""
        seconds = self.pace.left
        return f"about {duration(seconds)} left" if seconds else ""

    def line(self) -> str:
        """Return the progress as a line."""
        done = f"{self._done}/{self.total} trials"
        figures = [done, self._front, self._volume, self._elapsed, self.left()]
        under_way = [f"{self._of(number)}{one.doing}" for number, one in self._now]
        whole = [", ".join(filter(None, figures)), *(under_way or [self._doing])]
        return f"{self.name}: {'; '.join(whole)}"

    def rows(self, width: int) -> "list[Text]":
        """Return the progress as lines of a terminal: the study, then each running trial."""
        from rich.text import Text

        rows = [self._head(width)]
        for number, one in self._now:
            end = f"{one.doing}  {on_clock(self.pace.spent(number))}"
            long, short = f"  trial {number}  {one.sizes}  {end}", f"  trial {number}  {end}"
            rows.append(Text(long if len(long) <= width else short))
        return rows if self._now else [*rows, Text(f"  {self._doing}")]

    def _head(self, width: int) -> "Text":
        """Return the line of the study; what does not fit is left out."""
        from rich.text import Text

        name = self.name if len(self.name) <= 20 else f"{self.name[:19]}\u2026"
        figures = [f"{self._done}/{self.total}", self.left(), self._elapsed]
        figures += [self._front, self._volume]
        shown = list(filter(None, figures))
        while len(shown) > 1 and len("  ".join([name, *shown])) > width:
            shown.pop()
        room = min(BAR, width - len("  ".join([name, *shown])) - 1)
        head = Text(name, "bold")
        if room >= 4:
            full = round(room * min(1.0, self._done / max(1, self.total)))
            head.append(" ").append("\u2501" * full, "green")
            head.append("\u2500" * (room - full), "dim")
        return head.append("  ").append("  ".join(shown))

    @property
    def _now(self) -> list[tuple[int, RunningTrial]]:
        # another thread draws while trials begin and end
        return sorted(self._running.copy().items())

    @property
    def _elapsed(self) -> str:
        return on_clock(self.clock() - self._began)

    def _of(self, trial: int | None) -> str:
        one = None if trial is None else self._running.get(trial)
        return f"trial {trial} {one.sizes}: " if one else ""


def _phase(doing: str) -> str:
    """Return a phase without its counts: ``distil`` for ``distil 43/60``."""
    return re.split(r",? (?:pass |batch )?\d", doing, maxsplit=1)[0]


def on_clock(seconds: float) -> str:
    """Format seconds as on a clock: ``2:03`` or ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
