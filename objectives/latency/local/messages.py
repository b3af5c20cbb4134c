"""Asking a runner for one measurement, here or at the end of a line, and waiting for its answer."""

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from protege.objectives.latency.device.main import FRAME

_MOST_SAID = 4000
"""Characters of standard error that are kept: its end."""


@dataclass(frozen=True)
class Broken:
    """Why there is no answer.

    Attributes:
        cause: In words.
        code: The command's exit code; none where it was ended from here.
        said: The end of what it wrote to standard error.
    """

    cause: str
    code: int | None = None
    said: str = ""


def converse(
    command: Sequence[str],
    job: Mapping[str, Any],
    deadline_s: float,
    stall_s: float | None = None,
) -> dict[str, Any] | Broken:
    """The framed answer of a command to a job, or why there is none. Blocks, never polls.

    The command's input stays open until it has answered: its end is how a runner learns that
    nobody waits any more, so that nothing is left running wherever it was.

    Args:
        command: What to run.
        job: What its first line of input says.
        deadline_s: Seconds until it counts as hung.
        stall_s: Seconds without a sign of life after which it does; for commands that give one.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the study, which ends its runner in order
    ) as process:
        try:
            return _Conversation(process, deadline_s, stall_s).answer(job)
        finally:
            process.kill()  # whatever it still does: closing the pipes has told the runner


class _Conversation:
    """One command's pipes."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", deadline_s: float, stall_s: float | None
    ) -> None:
        self.process = process
        self.until_s = time.monotonic() + deadline_s
        self.deadline_s = deadline_s
        self.stall_s = stall_s
        self.heard = bytearray()
        self.said = bytearray()

    def answer(self, job: Mapping[str, Any]) -> dict[str, Any] | Broken:
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("the command has no pipes")
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it ended at once; why, its error output tells
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            return self._listen(selector, stdout)

    def _listen(
        self, selector: selectors.BaseSelector, stdout: IO[bytes]
    ) -> dict[str, Any] | Broken:
        while selector.get_map():
            left_s = max(0.0, self.until_s - time.monotonic())
            patience_s = left_s if self.stall_s is None else min(left_s, self.stall_s)
            ready = selector.select(patience_s)
            if not ready:
                hung = patience_s == left_s
                what = f"no answer within {self.deadline_s:g} s" if hung else "no sign of life"
                return Broken(what if hung else f"{what} for {patience_s:g} s", None, self._tail())
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is stdout:
                    self.heard += chunk
                    found = framed(bytes(self.heard))
                    if found is not None:
                        return found
                else:
                    self.said += chunk
        code = self.process.wait()
        return Broken(f"it ended with exit code {code}", code, self._tail())

    def _tail(self) -> str:
        lines = self.said.decode(errors="replace").splitlines()
        return "\n".join(line for line in lines if line != "measuring")[-_MOST_SAID:]


def framed(heard: bytes) -> dict[str, Any] | None:
    """The answer, once its line is complete."""
    for line in heard.split(b"\n")[:-1]:
        if line.startswith(FRAME.encode()):
            return dict(json.loads(line[len(FRAME) :]))
    return None
