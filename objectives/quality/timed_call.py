"""Calls of a user's function: a time limit, and the line of the user's code in error messages."""

import contextvars
import ctypes
import faulthandler
import linecache
import os
import re
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

BEAT_S = 5.0
"""Seconds between two signs of life while a function runs."""

GRACE_S = 1.0
"""Seconds that an interrupted function has to end."""

_ROOMS = (
    f"{Path(__file__).parents[2] / room}{os.sep}" for room in ("spaces", "objectives", "search")
)
_LIBRARIES = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), *_ROOMS)
"""Folders whose code is not the user's."""

_FRAME = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)
"""A line of what `faulthandler` prints."""

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
    frames = traceback.walk_tb(error.__traceback__)
    return _shown([(frame.f_code.co_filename, line) for frame, line in frames])


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
        """Return the line of the user's code that runs now.

        The frames of a thread that runs on must not be touched from another one: before Python 3.12
        that crashes the process when the thread ends at that moment, and before 3.11.9 even
        ``sys._current_frames`` can deadlock (python/cpython#106883). `faulthandler` reads them in
        one call of C.
        """
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            stacks = file.read().split("\n\n")
        own = f"Thread 0x{self.ident or 0:016x} "
        found = [_FRAME.findall(one) for one in stacks if one.startswith(own)]
        return _shown([(name, int(line)) for name, line in reversed(found[0])] if found else [])

    def end(self) -> None:
        """Interrupt the function if it still runs."""
        if self.is_alive():
            _interrupt(self.ident or 0)
            self.join(GRACE_S)
        if self.is_alive():
            _abandoned.append(self)


def _interrupt(thread: int) -> None:
    """Raise `Interrupted` in another thread, at its next Python instruction.

    Until Python 3.13, one flag says that some thread has an exception to raise, and only a thread
    that raises one lowers it. While the other thread is inside a call of compiled code, the flag
    would stay up; then no traced function begins, and a debugger or coverage hangs. So this thread
    raises one as well, and catches it; the other one raises the flag again when it goes on.
    """
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    error, own = ctypes.py_object(Interrupted), threading.get_ident()
    with suppress(Interrupted):
        raise_in(ctypes.c_ulong(thread), error)
        raise_in(ctypes.c_ulong(own), error)
        for _ in range(100):
            pass  # the exception is raised here at the latest


def _shown(lines: list[tuple[str, int]]) -> str:
    """Return the last line that is neither a library's nor of protege, without its folder.

    Args:
        lines: File and number of each line of a call stack, the outermost first.
    """
    outside = [one for one in lines if not one[0].startswith((*_LIBRARIES, "<frozen"))]
    return "".join(
        f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}"
        for file, number in (outside or lines)[-1:]
    )
