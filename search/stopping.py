"""When a study ends: trials, time, nothing more to gain; and what Ctrl-C does."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from protege.search.progress import complain
from protege.spaces import BadInput

ASKED_TO_LEAVE = "Ctrl-C asked it to"
"""Why a study ended that somebody at the terminal has ended."""

GAIN = 1e-3
"""By what share hypervolume has to grow for it to count; noise alone makes it grow by less."""


@dataclass(frozen=True)
class Stopping:
    """When a study has done enough; whatever comes first.

    Attributes:
        trials: Trials in all, those of earlier runs included.
        minutes: No trial begins when the run has taken so long; the first of a study always does.
        patience: Trials in a row without any gain of hypervolume.

    Raises:
        BadInput: One of them is not above 0.
    """

    trials: int
    minutes: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "minutes", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"{name}={value!r}: expected a number above 0")

    def reason(self, volumes: Sequence[float], seconds: float) -> str:
        """Why the study is at its end; empty if it is not.

        Args:
            volumes: The hypervolume after each trial.
            seconds: What this run has taken.
        """
        if len(volumes) >= self.trials:
            return f"{self.trials} trials are done"
        if self.minutes is not None and volumes and seconds >= 60 * self.minutes:
            return f"{self.minutes:g} minutes are over"
        if self.patience is not None and without_gain(volumes) >= self.patience:
            return f"the last {self.patience} trials gained no hypervolume"
        return ""


def without_gain(volumes: Sequence[float]) -> int:
    """How many of the last trials gained less than `GAIN`, all of them together."""
    best, last = 0.0, 0
    for number, volume in enumerate(volumes, 1):
        if volume > best * (1 + GAIN):
            best, last = volume, number
    return len(volumes) - last


@dataclass
class Leaving:
    """Whether the study was asked to end with what is under way."""

    asked: bool = False


@contextmanager
def leaving() -> Iterator[Leaving]:
    """Ctrl-C once asks to leave when what runs is finished; twice leaves at once.

    Outside the main thread, where Python hands on no signals, it is left as it is.
    """
    found = Leaving()

    def ask(_: int, __: FrameType | None) -> None:
        if found.asked:
            raise KeyboardInterrupt
        found.asked = True
        complain("protege: leaving when this trial is finished; Ctrl-C again leaves now")

    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield found
    finally:
        signal.signal(signal.SIGINT, before)
