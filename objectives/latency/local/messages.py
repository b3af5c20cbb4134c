"""Send one job to a runner process, local or remote, and wait for its answer."""

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
"""Maximum characters kept from the end of standard error."""


@dataclass(frozen=True)
class Broken:
    """A command that ended or was killed without an answer.

    Attributes:
        cause: The reason, in words.
        code: The command's exit code; None if it was killed from here.
        said: The end of its standard error.
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
    """Run a command, send it a job, and wait for its framed answer. Blocks without polling.

    The command's input stays open until it has answered. Its end tells the runner to exit, so that
    no measurement keeps running, even on a remote device.

    Args:
        command: The command and its arguments.
        job: Sent as one line of JSON.
        deadline_s: Seconds until the command counts as hung.
        stall_s: Seconds without output until it counts as hung; for commands with a heartbeat.

    Returns:
        The answer, or why there is none.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the study, which ends its runner in order
    ) as process:
        try:
            return _Exchange(process, deadline_s, stall_s).answer(job)
        finally:
            process.kill()  # the runner ends when its pipes close


class _Exchange:
    """A running command, its pipes, and the output read so far."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", deadline_s: float, stall_s: float | None
    ) -> None:
        self.process = process
        self.until_s = time.monotonic() + deadline_s
        self.deadline_s = deadline_s
        self.stall_s = stall_s
        self.output = bytearray()
        self.errors = bytearray()

    def answer(self, job: Mapping[str, Any]) -> dict[str, Any] | Broken:
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        if stdin is None or stdout is None or stderr is None:
            raise RuntimeError("the command has no pipes")
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it ended at once; its standard error says why
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            return self._read(selector, stdout)

    def _read(self, selector: selectors.BaseSelector, stdout: IO[bytes]) -> dict[str, Any] | Broken:
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
                    self.output += chunk
                    found = framed(bytes(self.output))
                    if found is not None:
                        return found
                else:
                    self.errors += chunk
        code = self.process.wait()
        return Broken(f"it ended with exit code {code}", code, self._tail())

    def _tail(self) -> str:
        lines = self.errors.decode(errors="replace").splitlines()
        return "\n".join(line for line in lines if line != "measuring")[-_MOST_SAID:]


def framed(output: bytes) -> dict[str, Any] | None:
    """Return the framed answer in a command's output; None until its line is complete."""
    for line in output.split(b"\n")[:-1]:
        if line.startswith(FRAME.encode()):
            return dict(json.loads(line[len(FRAME) :]))
    return None
