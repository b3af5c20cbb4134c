"""Stopping rules of a study, and the handling of Ctrl-C, SIGTERM and SIGHUP."""

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Integral, Real
from types import FrameType
from typing import Any

from protege.spaces import BadInput

_LOG = logging.getLogger("protege")

CTRL_C_REASON = "interrupted by Ctrl-C"
"""Reason of a study that Ctrl-C ended."""

REASONS = {
    signal.SIGINT: CTRL_C_REASON,
    signal.SIGTERM: "interrupted by SIGTERM",
    signal.SIGHUP: "interrupted by SIGHUP",
}
"""Reason of a study that a signal ended, by signal."""

GRACE_S = 5.0
"""Default seconds that running trials get after SIGTERM or SIGHUP; Docker kills after ten."""

GAIN = 1e-3
"""Relative growth of the hypervolume that counts as a gain; noise alone stays below it."""


@dataclass(frozen=True)
class Stopping:
    """The limits of a study; the first one reached ends it.

    Attributes:
        trials: Total number of trials, including those of earlier runs.
        minutes: Minutes of this run after which no trial begins, except the first of a study.
        patience: Consecutive trials without a gain in hypervolume.

    Raises:
        BadInput: A limit is not above 0.
    """

    trials: int
    minutes: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "minutes", "patience"):
            value: Any = getattr(self, name)
            is_whole = name != "minutes"
            if value is None and name != "trials":
                continue
            if not isinstance(value, Integral if is_whole else Real) or not float(value) > 0:
                kind = "a whole number" if is_whole else "a number"
                raise BadInput(f"{name}={value!r}: expected {kind} above 0")

    def reason(self, volumes: Sequence[float], seconds: float) -> str:
        """Return why the study ends, or an empty string."""
        if len(volumes) >= self.trials:
            return f"{self.trials} trials are done"
        if self.minutes is not None and volumes and seconds >= 60 * self.minutes:
            return f"{self.minutes:g} minutes are over"
        if self.patience is not None and without_gain(volumes) >= self.patience:
            return f"the last {self.patience} trials gained no hypervolume"
        return ""


def without_gain(volumes: Sequence[float]) -> int:
    """Count the trials since the hypervolume last grew by more than `GAIN`."""
    best, last = 0.0, 0
    for number, volume in enumerate(volumes, 1):
        if volume > best * (1 + GAIN):
            best, last = volume, number
    return len(volumes) - last


class Interrupted(KeyboardInterrupt):
    """A signal ends the command; the exit code is 128 plus its number.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(error: KeyboardInterrupt) -> int:
    """Return the exit code of a command that a signal has ended, such as 130 for Ctrl-C."""
    return 128 + (error.number if isinstance(error, Interrupted) else signal.SIGINT)


def signal_behind(reason: str) -> int | None:
    """Return the signal for which a study ended for that reason, or None if none did."""
    return next((number for number, one in REASONS.items() if one == reason), None)


@dataclass
class StopRequest:
    """The signal, if any, that asked the study to end after the running trials.

    Attributes:
        grace_s: Seconds that running trials get after SIGTERM or SIGHUP.
        number: The signal, or None.
    """

    grace_s: float = GRACE_S
    number: signal.Signals | None = None
    _is_overdue: bool = False
    _timer: threading.Timer | None = None

    @property
    def reason(self) -> str:
        """Why the study is to end, or an empty string."""
        return "" if self.number is None else REASONS[self.number]

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)

    def ask(self, number: int, _: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            Interrupted: On the second Ctrl-C, or `grace_s` seconds after SIGTERM or SIGHUP.
        """
        if number == signal.SIGHUP:
            mute_closed_terminal()
        if self.number and (number == signal.SIGINT or self._is_overdue):
            raise Interrupted(self.number)
        self.number = self.number or signal.Signals(number)
        if number == signal.SIGINT:
            _LOG.warning(
                "protege: finishing the running trials, then stopping; Ctrl-C again stops now"
            )
        elif self._timer is None:  # GNU timeout and some schedulers send it twice
            self._timer = threading.Timer(self.grace_s, self._call_again, [number])
            self._timer.daemon = True
            self._timer.start()
            _LOG.warning(
                "protege: %s: finishing the running trials, then stopping; stopping without them "
                "after %g s",
                signal.Signals(number).name,
                self.grace_s,
            )

    def settle(self) -> None:
        """Cancel the timer, if any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

    def _call_again(self, number: int) -> None:
        self._is_overdue = True
        os.kill(os.getpid(), number)


StopRequestContext = Callable[[], AbstractContextManager[StopRequest]]
"""Makes a context that yields the record of requests to end early."""


def no_stop_requests() -> AbstractContextManager[StopRequest]:
    """Return a context in which nothing asks the study to end early; signals are not handled."""
    return nullcontext(StopRequest())


@contextmanager
def stop_requests(grace_s: float = GRACE_S) -> Iterator[StopRequest]:
    """Handle signals in the block, and yield a record of them.

    The first Ctrl-C, SIGTERM or SIGHUP asks the study to end after the running trials. A second
    Ctrl-C ends it at once. The sender of SIGTERM or SIGHUP (Slurm, Docker, Kubernetes) kills the
    process soon after, so trials that are not finished after `grace_s` are left for the next run.

    SIGINT is handled even if it was ignored, as it is in background processes of a shell without
    job control. SIGTERM and SIGHUP stay ignored if they were, as by ``nohup``. Outside the main
    thread, where Python delivers no signals, nothing changes.

    Args:
        grace_s: Seconds that running trials get after SIGTERM or SIGHUP.
    """
    found = StopRequest(grace_s)
    with handling(found.ask, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        try:
            yield found
        except KeyboardInterrupt:
            found.check()  # Ray raises one of its own in place of what a handler raised
            raise
        finally:
            found.settle()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make the first SIGTERM or SIGHUP in the block raise `Interrupted`."""
    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            mute_closed_terminal()
        if not received:  # a second one must not interrupt the cleanup
            received.append(number)
            raise Interrupted(number)

    with handling(stop, (signal.SIGTERM, signal.SIGHUP)):
        yield


@contextmanager
def handling(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals]
) -> Iterator[None]:
    """Handle signals in the block; ignored ones stay ignored, except SIGINT."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers}
    handled = {
        number: one
        for number, one in before.items()
        # None: a handler set outside Python, which could not be restored
        if one is not None and (one != signal.SIG_IGN or number == signal.SIGINT)
    }
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, one in handled.items():
            signal.signal(number, one)


def mute_closed_terminal() -> None:
    """Redirect stdout and stderr to the null device if their terminal is gone."""
    for descriptor in (1, 2):
        poll = select.poll()
        poll.register(descriptor, 0)
        if any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
