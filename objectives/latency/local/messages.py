"""Run a command, such as a runner here or on a device, and wait for its framed answer."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
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
    given: Mapping[str, Any] | IO[bytes] | None,
    deadline_s: float,
    stall_s: float | None = None,
) -> dict[str, Any] | Broken:
    """Run a command and wait for its framed answer. Blocks without polling.

    Args:
        command: The command and its arguments.
        given: A job, sent as one line of JSON; the input then stays open, and its end tells the
            runner to exit, so that no measurement keeps running, even on a remote device. Or a
            file that is the whole input, or None for no input.
        deadline_s: Seconds until the command counts as hung.
        stall_s: Seconds without output until it counts as hung; for commands with a heartbeat.

    Returns:
        The answer, or why there is none.
    """
    stdin: Any = subprocess.DEVNULL if given is None else given
    if isinstance(given, Mapping):
        stdin = subprocess.PIPE
    with (
        # not a pipe: before 8.5 the ssh process that holds the connection keeps stderr open
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the study, which ends its runner in order
        ) as process,
    ):
        try:
            if process.stdin is not None:
                _send(process.stdin, json.dumps(given).encode() + b"\n")
            answer = _read(process, deadline_s, stall_s)
        finally:
            process.kill()  # the runner ends when its pipes close
        if isinstance(answer, Broken):
            errors.seek(0)
            answer = replace(answer, said=errors.read().decode(errors="replace")[-_MOST_SAID:])
        return answer


def _send(pipe: Any, message: bytes) -> None:
    """Write a message to a command, which may have ended: its standard error says why."""
    try:
        pipe.write(message)
        pipe.flush()
    except BrokenPipeError:
        pipe.raw.close()  # closing the pipe itself would try to write the message again


def _read(
    process: "subprocess.Popen[bytes]", deadline_s: float, stall_s: float | None
) -> dict[str, Any] | Broken:
    if process.stdout is None:
        raise RuntimeError("the command has no output pipe")
    output, rest = process.stdout.fileno(), b""
    until_s = time.monotonic() + deadline_s
    hung = Broken(f"no answer within {deadline_s:g} s")
    while True:
        left_s = max(0.0, until_s - time.monotonic())
        if not wait([output], min(left_s, stall_s or left_s)):
            stalled = stall_s is not None and stall_s < left_s
            return Broken(f"no sign of life for {stall_s:g} s") if stalled else hung
        chunk = os.read(output, 1 << 16)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(FRAME.encode()):
                return dict(json.loads(line[len(FRAME) :]))
    try:
        code = process.wait(max(1.0, until_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        return hung
    return Broken(f"it ended with exit code {code}", code)
