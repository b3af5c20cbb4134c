"""Where the time of a run goes, phase by phase."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Seconds by phase; a phase inside another is taken out of the outer one.

    Attributes:
        seconds: What each phase has taken so far.
        announce: Called with a phase's name when it starts, for whoever shows progress.
        tell: Called with a line that people are to read, at a terminal or in a log.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    announce: Callable[[str], None] = lambda _: None
    tell: Callable[[str], None] = lambda _: None
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book the time of the block under the name."""
        self._switch()
        self._running.append(name)
        self.show(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def show(self, what: str) -> None:
        """Announce what is going on; a display that raises costs no trial."""
        with contextlib.suppress(Exception):
            self.announce(what)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Book the time of the block nowhere: somebody else does."""
        self._switch()
        running, self._running = self._running, []
        try:
            yield
        finally:
            self._switch()
            self._running = running

    def snapshot(self) -> dict[str, float]:
        """The seconds booked up to now, the running phase's included."""
        self._switch()
        return dict(self.seconds)

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """What was booked since a snapshot, by phase; phases without any are left out."""
        now = self.snapshot()
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}
        return {name: seconds for name, seconds in spent.items() if seconds > 0}

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
