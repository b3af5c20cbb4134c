"""Where the time of a run goes, phase by phase."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stopwatch:
    """Seconds by phase; a phase inside another is taken out of the outer one.

    Attributes:
        seconds: What each phase has taken so far.
        announce: Called with a phase's name when it starts, for whoever shows progress.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    announce: Callable[[str], None] = lambda _: None
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book the time of the block under the name."""
        self._switch()
        self._running.append(name)
        self.announce(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
