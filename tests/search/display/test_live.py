"""What stays on a real terminal, as an emulator draws it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

import pytest

pyte = pytest.importorskip("pyte")

PROGRAM = """
import logging, sys, time
from protege.search.progress import bar, watching

with watching("loading"):
    time.sleep(0.6)
with bar("toy", 4) as shown:
    shown.done(0, 0, 0.0)
    for number in range(4):
        shown.run(number, "4x24-h6-f40")
        shown.doing("weight reconstruction", number)
        print("printed", number)
        logging.getLogger("foreign").warning("warned %d", number)
        for share in range(5):
            print(f"\\rweights {share}/4", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        time.sleep(0.7)
        shown.ended(number, f"4x24-h6-f40-t{number}: on the front")
        shown.done(number + 1, number + 1, 0.25 * number)
print("the end")
"""


QUIET_S = 0.05
"""Seconds without output after which a program is between two drawings."""


def size(terminal: int, columns: int) -> None:
    ioctl(terminal, TIOCSWINSZ, pack("HHHH", 40, columns, 0, 0))


def shown(terminal: int, within: float) -> bytes | None:
    """What is written to a terminal within some seconds; None once the program has ended."""
    if not select.select([terminal], [], [], within)[0]:
        return b""
    with suppress(OSError):  # the program has ended
        return os.read(terminal, 4096) or None
    return None


def screen_after(widths: list[int]) -> list[str]:
    """The lines of a terminal, with those that scrolled away, that is resized while it draws."""
    ours, theirs = pty.openpty()
    size(ours, widths[0])
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    screen = pyte.HistoryScreen(widths[0], 40, history=200)
    stream = pyte.ByteStream(screen)
    changes = [(time.monotonic() + 1.5 + 0.6 * n, width) for n, width in enumerate(widths[1:])]
    while (found := shown(ours, QUIET_S)) is not None:
        stream.feed(found)
        if found or not changes or time.monotonic() < changes[0][0]:
            continue
        # what is on its way was made for the old width, which a terminal cannot know
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        late = shown(ours, 0.0)
        if not late:
            width = changes.pop(0)[1]
            size(ours, width)
            screen.resize(40, width)
        stream.feed(late or b"")
        process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=60) == 0
    os.close(ours)
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.mark.parametrize("widths", [[80], [100, 60, 90, 70]], ids=["still", "resized"])
def test_only_whole_lines_stay_on_a_terminal(widths: list[int]) -> None:
    lines = screen_after(widths)
    expected = []
    for number in range(4):
        expected += [f"printed {number}", f"warned {number}", "weights 4/4"]
        expected.append(f"toy: 4x24-h6-f40-t{number}: on the front")
    assert lines[:-2] == expected
    assert lines[-2].startswith("toy \u2501")
    assert "4/4" in lines[-2]
    assert lines[-1] == "the end"
