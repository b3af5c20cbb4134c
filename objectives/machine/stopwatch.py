"""A stopwatch that records the seconds of each phase of a run."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Seconds by phase; the time of a nested phase does not count for the outer one.

    Attributes:
        seconds: Seconds of each phase so far.
        announce: Progress callback; called with the name of each phase when it starts.
        tell: Callback for messages to the user.
        clock: Returns the time in seconds.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    announce: Callable[[str], None] = lambda _: None
    tell: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.perf_counter
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the time of the block under a phase name."""
        self._switch()
        self._running.append(name)
        self.show(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def show(self, what: str) -> None:
        """Call the progress callback; ignore any exception it raises."""
        with contextlib.suppress(Exception):
            self.announce(what)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of the block, which is recorded elsewhere."""
        self._switch()
        running, self._running = self._running, []
        try:
            yield
        finally:
            self._switch()
            self._running = running

    def snapshot(self) -> dict[str, float]:
        """Return the seconds by phase, including the running phase."""
        self._switch()
        return dict(self.seconds)

    def since(self, before: Mapping[str, float]) -> dict[str, float]:
        """Return the seconds by phase since a snapshot, without phases that took no time."""
        now = self.snapshot()
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}
        return {name: seconds for name, seconds in spent.items() if seconds > 0}

    def _switch(self) -> None:
        now = self.clock()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
