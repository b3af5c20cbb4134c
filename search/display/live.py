"""Lines at the bottom of a terminal that are redrawn in place, or plain lines elsewhere."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment
from rich.text import Text

LINE_S = 30.0
"""Maximum seconds between two lines of progress, if the output is not a terminal."""

POLL_S = 1.0
"""Seconds between two looks at the clock."""

REDRAW_S = 0.25
"""Seconds between two drawings on a terminal."""


def is_redrawn(console: Console) -> bool:
    """Return whether lines can be redrawn in place there."""
    return console.is_terminal and not console.is_dumb_terminal


def plain_line(console: Console, line: str) -> None:
    """Print a line as it is, above the live ones."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def live_lines(
    console: Console, lines: Callable[[int], Sequence[Text]], *, keep: bool
) -> Iterator[None]:
    """Redraw lines at the bottom of a terminal in the block.

    What the block prints to the terminal appears above them.

    Args:
        console: The terminal.
        lines: Returns the lines for a width. They are cut to it.
        keep: Whether the first line stays after the block.
    """
    region, ended = _Region(lines), threading.Event()

    def redraw() -> None:
        while not ended.wait(REDRAW_S):
            with suppress(OSError):  # a terminal that is gone
                console.print(Control())

    thread = threading.Thread(target=redraw, daemon=True)
    with ExitStack() as stack:
        console.show_cursor(show=False)
        console.push_render_hook(region)
        stack.callback(_leave, console, region, 1 if keep else 0)
        for stream, redirected in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream.isatty() and not isinstance(stream, _Above):
                above = _Above(console, stream)
                stack.callback(above.finish)
                stack.enter_context(redirected(above))
        stack.callback(thread.join)
        stack.callback(ended.set)
        console.print(Control())
        thread.start()
        yield


def _leave(console: Console, region: "_Region", kept: int) -> None:
    with suppress(OSError):
        region.kept = kept
        console.print(Control())
        console.show_cursor(show=True)
    console.pop_render_hook()


class _Above(io.TextIOBase):
    """A stream whose complete lines appear above the live ones.

    Of a line that is rewritten, as progress bars of other libraries do, only the last state does.

    Attributes:
        rich_proxied_file: The stream itself, which consoles write to.
    """

    def __init__(self, console: Console, stream: TextIO) -> None:
        self.rich_proxied_file = stream
        self._console = console
        self._rest = ""

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]
            self._console.print(Text.from_ansi(shown), soft_wrap=True)
        return len(text)

    def finish(self) -> None:
        """Print the rest, a line that did not end."""
        if self._rest:
            self.write("\n")

    def isatty(self) -> bool:
        return self.rich_proxied_file.isatty()

    def fileno(self) -> int:
        return self.rich_proxied_file.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class _Region(RenderHook):
    """Draws lines below everything that is printed.

    The cursor waits at their beginning. A terminal that is resized wraps lines anew and keeps the
    cursor at its character, so erasing from the cursor on leaves nothing of them.
    """

    def __init__(self, lines: Callable[[int], Sequence[Text]]) -> None:
        self._lines = lines
        self.kept: int | None = None

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Erase(), *renderables, self]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, console.height - 2) if self.kept is None else self.kept
        # a full last column would wrap
        width = max(1, console.width - 1)
        shown = list(self._lines(width))[:room]
        for number, line in enumerate(shown):
            line.truncate(width, overflow="ellipsis")
            if number:
                yield Segment.line()
            yield from line.render(console)
        if self.kept is not None:
            yield from [Segment.line()] * self.kept
            return
        up = f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""
        yield _control(f"\r{up}")


class _Erase:
    """Erases from the cursor to the end of the screen."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _control("\r\x1b[J")


def _control(codes: str) -> Segment:
    return Segment(codes, None, [(ControlType.CARRIAGE_RETURN,)])


@contextmanager
def repeated_line(
    console: Console,
    line: Callable[[], str],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Print a line every `LINE_S` seconds in the block."""
    ended, began = threading.Event(), clock()

    def repeat() -> None:
        last = began
        while not ended.wait(POLL_S):
            if clock() - last >= LINE_S:
                last = clock()
                with suppress(OSError):  # a terminal that is gone
                    plain_line(console, line())

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
