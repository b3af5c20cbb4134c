"""Run commands on a device by ``ssh``, with one shared connection per process."""

import atexit
import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.targets.target import Unmeasured
from protege.spaces.errors import Unavailable, Unsupported
from protege.spaces.files.hashing import digest
from protege.spaces.files.locks import locked, of_this_user

Result = TypeVar("Result")

PAUSES_S = (2.0, 8.0, 30.0)
"""Pauses in seconds before each retry of a device that did not answer."""

CONNECT_S = 10
"""Connection timeout in seconds."""

_NO_CONNECTION = 255
"""The exit code of ``ssh`` if it failed itself, not the remote command."""

_OPTIONS = {
    "BatchMode": "yes",  # never ask for a password
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": CONNECT_S,
    "ServerAliveInterval": 5,
    "ServerAliveCountMax": 3,
    "ControlMaster": "auto",
    "ControlPersist": 60,
}


_UNKNOWN = (
    "has a host key that is not known here: connect once by hand ({ssh}), and compare the "
    "fingerprint that it shows with the device's (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)"
)
_LOGIN = "refuses login without a password: run ssh-copy-id {host}, or load the key with ssh-add"
_REFUSALS = {
    "IDENTIFICATION HAS CHANGED": "has another host key than the known one, maybe by an attack; if "
    "the device was reinstalled, connect by hand, which tells how to forget the old key: {ssh}",
    "Host key verification failed": _UNKNOWN,
    "host key is known for": _UNKNOWN,
    "Permission denied": _LOGIN,
    "Too many authentication failures": _LOGIN,
}
"""Errors of ``ssh`` that a retry does not change, and what they mean."""


class ConnectionLost(Exception):
    """A device did not answer; a retry may help.

    Attributes:
        code: The exit code of the command that was to ask it, if it ended.
    """

    def __init__(self, why: str, code: int | None = None) -> None:
        super().__init__(why)
        self.code = code


def retried(ask: Callable[[], Result], pauses_s: Sequence[float], what: str) -> Result:
    """Call a function until the device answers, with pauses between the tries.

    Args:
        ask: Raises `ConnectionLost` if the device does not answer.
        pauses_s: Pauses in seconds before each retry.
        what: The beginning of the error message.

    Raises:
        Unmeasured: The device did not answer in any try.
    """
    patient = Retrying(
        retry=retry_if_exception_type(ConnectionLost),
        stop=stop_after_attempt(1 + len(pauses_s)),
        wait=wait_chain(*map(wait_fixed, pauses_s or [0.0])),
        reraise=True,
    )
    try:
        return patient(ask)
    except ConnectionLost as lost:
        raise Unmeasured(f"{what} in {1 + len(pauses_s)} tries: {lost}") from lost


@dataclass(frozen=True)
class SshConnection:
    """An SSH connection to a host.

    The `options` come after ours, and ``ssh`` uses the first value of an option, so host keys are
    always checked.
    """

    host: str
    options: tuple[str, ...] = ()

    def command(self, remote: str) -> list[str]:
        """Return the local command that runs `remote` in the host's shell.

        Raises:
            Unsupported: There is no ``ssh`` on this machine.
        """
        program = shutil.which("ssh")
        if program is None:
            raise Unsupported("there is no ssh command on this machine; install OpenSSH's client")
        socket = _sockets() / digest(repr(self).encode())
        given = {**_OPTIONS, "ControlPath": socket}
        ours = [part for name, value in given.items() for part in ("-o", f"{name}={value}")]
        return [program, "-T", *ours, *self.options, "--", self.host, remote]

    def ask(
        self,
        remote: str,
        deadline_s: float,
        given: Mapping[str, Any] | IO[bytes] | None = None,
        stall_s: float | None = None,
    ) -> dict[str, Any]:
        """Run a command on the host and return its framed answer; see `converse`.

        Raises:
            Unavailable: The host key is not trusted, or the host refuses access.
            ConnectionLost: The host does not answer.
        """
        answer = converse(self.command(remote), given, deadline_s, stall_s)
        if not isinstance(answer, Broken):
            return answer
        by_hand = shlex.join(["ssh", *self.options, self.host])
        for cause, advice in _REFUSALS.items() if answer.code == _NO_CONNECTION else ():
            if cause in answer.said:
                raise Unavailable(f"{self.host} {advice.format(host=self.host, ssh=by_hand)}")
        lines = answer.said.strip().splitlines()
        why = f"{answer.cause}: {lines[-1].strip()}" if lines else answer.cause
        raise ConnectionLost(why, answer.code)


def device_lock(device: str) -> contextlib.AbstractContextManager[None]:
    """Lock a device among the user's processes on this machine; waits until it is free."""
    return locked(of_this_user(f"device-{digest(device.encode())}"))


@cache
def _sockets() -> Path:
    """Create this process's folder for the sockets of its connections."""
    # a socket's path is limited to about 100 characters, most of which macOS's TMPDIR takes
    folder = tempfile.mkdtemp(prefix="protege-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
