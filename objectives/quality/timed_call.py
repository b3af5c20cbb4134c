"""Calls of a user's function: a time limit, and the line of the user's code in error messages."""

import contextvars
import ctypes
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

BEAT_S = 5.0
"""Seconds between two signs of life while a function runs."""

GRACE_S = 1.0
"""Seconds that an interrupted function has to end."""

_LIBRARIES = tuple({sysconfig.get_path(one) for one in ("stdlib", "purelib", "platlib")})

_abandoned: list["_Call"] = []
"""Calls that did not end when they were interrupted."""


class Interrupted(BaseException):
    """Raised inside a function that ran out of time; no ``except Exception`` catches it."""


class OutOfTime(Exception):
    """A function ran out of time; the message is the line of the user's code that it was at."""


class Outcome(NamedTuple):
    """What a function returned, or what it raised."""

    result: Any
    error: BaseException | None


def call_within(seconds: float, function: Callable[[], Any], beat: Callable[[], None]) -> Outcome:
    """Call a function in a thread of its own.

    A function that runs out of time is interrupted at its next Python instruction. One that is
    inside a call of compiled code or of the system ends only when that call returns; its thread is
    left behind (see `is_any_left`).

    Args:
        seconds: The time limit.
        function: The function.
        beat: Called every few seconds while the function runs.

    Raises:
        OutOfTime: The function ran out of time.
    """
    call = _Call(function)
    call.start()
    end = monotonic() + seconds
    try:
        while call.is_alive() and (left := end - monotonic()) > 0:
            call.join(min(left, BEAT_S))
            beat()
        if call.is_alive():
            raise OutOfTime(call.place())
    finally:  # also if this thread is interrupted, as by Ctrl-C
        call.end()
    # a cycle of an exception, its traceback and the thread would keep the student in memory
    outcome, call.outcome = call.outcome, Outcome(None, None)
    return outcome


def is_any_left() -> bool:
    """Return whether a function still runs in this process after its time ran out."""
    _abandoned[:] = [one for one in _abandoned if one.is_alive()]
    return bool(_abandoned)


def line_of(error: BaseException) -> str:
    """Return the line of the user's code that an exception passed last, as ``file.py:3: code``."""
    return _shown([*traceback.walk_tb(error.__traceback__)])


class _Call(threading.Thread):
    """A thread that calls a function once; `outcome` is set at its end."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(name="score", daemon=True)
        self._function, self._context = function, contextvars.copy_context()
        self.outcome = Outcome(None, None)

    def run(self) -> None:
        try:
            self.outcome = Outcome(self._context.run(self._function), None)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self.outcome = Outcome(None, error)

    def place(self) -> str:
        """Return the line of the user's code that runs now."""
        frame = sys._current_frames().get(self.ident or 0)  # noqa: SLF001 - no public name
        return _shown([*traceback.walk_stack(frame)][::-1] if frame else [])

    def end(self) -> None:
        """Interrupt the function if it still runs."""
        if self.is_alive():
            raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
            raise_in(ctypes.c_ulong(self.ident or 0), ctypes.py_object(Interrupted))
            self.join(GRACE_S)
        if self.is_alive():
            _abandoned.append(self)


def _shown(frames: list[tuple[FrameType, int]]) -> str:
    """Return the last line that is neither a library's nor of protege, without its folder."""
    outside = [one for one in frames if not _is_of_library(one[0])]
    found = traceback.StackSummary.extract((outside or frames)[-1:])
    return "".join(f"{Path(one.filename).name}:{one.lineno}: {one.line or ''}" for one in found)


def _is_of_library(frame: FrameType) -> bool:
    own = str(frame.f_globals.get("__name__", "")).startswith("protege.")
    return own or frame.f_code.co_filename.startswith((*_LIBRARIES, "<frozen"))
