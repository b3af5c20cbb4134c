"""The time left of a study, estimated from the time that its trials take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Pace:
    """Running times of the trials of one run, and the time left.

    A trial's time counts while its job runs, not while it waits at a rung. The time left is the
    mean of the ended trials for each trial to come, less what the running and waiting ones had,
    divided by the number of jobs that ran at once on average.

    Attributes:
        total: Number of trials of the study.
        clock: Returns the time in seconds.
    """

    total: int
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    _spent: dict[int, float] = field(default_factory=dict, init=False)
    """Seconds of trials that have not ended, without the current stretch."""
    _since: dict[int, float] = field(default_factory=dict, init=False)
    """Beginning of the current stretch of each running trial."""
    _ended_s: float = field(default=0.0, init=False)
    _first: int | None = field(default=None, init=False)
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def run(self, number: int) -> None:
        """Count the time of a trial from now on."""
        self._spent.setdefault(number, 0.0)
        self._since[number] = self.clock()

    def wait(self, number: int) -> None:
        """Count no time of a trial until it runs again."""
        began = self._since.pop(number, None)
        if began is not None:
            self._spent[number] += self.clock() - began

    def end(self, number: int) -> None:
        """Add a trial's time to that of the ended ones."""
        self.wait(number)
        self._ended_s += self._spent.pop(number, 0.0)

    def done(self, trials: int) -> None:
        """Set the number of ended trials; those of the first call belong to earlier runs."""
        if self._first is None:
            self._first, self.began = trials, self.clock()
        self._done = trials

    def spent(self, number: int) -> float:
        """Return the running time of a trial so far."""
        since = self._since.get(number)
        return self._spent.get(number, 0.0) + (self.clock() - since if since is not None else 0.0)

    @property
    def left(self) -> float | None:
        """Seconds left; None before the first trial has ended."""
        ended = self._done - (self._first or 0)
        if ended <= 0:
            return None
        elapsed = self.clock() - self.began
        under_way = [self.spent(number) for number in [*self._spent]]
        to_come = max(0, self.total - self._done - len(under_way))
        mean = self._ended_s / ended
        work = to_come * mean + sum(max(0.0, mean - spent) for spent in under_way)
        had = self._ended_s + sum(under_way)
        # without a trial's time, as in a resumed study of measured trials: by their number
        return elapsed * work / had if had else elapsed / ended * (self.total - self._done)
