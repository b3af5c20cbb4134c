"""A line to a device: the user's own ``ssh``, with one connection for all commands of a process."""

import atexit
import contextlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_chain, wait_fixed

from protege.objectives.latency.local.messages import Broken, framed
from protege.objectives.latency.targets.target import Unmeasured
from protege.spaces.errors import Unavailable, Unsupported
from protege.spaces.files.hashing import digest
from protege.spaces.files.locks import locked, of_this_user

Result = TypeVar("Result")

PAUSES_S = (2.0, 8.0, 30.0)
"""Seconds before each further try to reach a device that did not answer."""

CONNECT_S = 10
"""Seconds until a host that does not answer counts as out of reach."""

_NO_CONNECTION = 255
"""What ``ssh`` ends with when the trouble is its own, not the command's."""

_OPTIONS = {
    "BatchMode": "yes",  # nobody is there to type a password
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": CONNECT_S,
    "ServerAliveInterval": 5,
    "ServerAliveCountMax": 3,
    "ControlMaster": "auto",
    "ControlPersist": 60,
}


class LostError(Exception):
    """A device did not answer this time, and may the next; says why."""


def retried(ask: Callable[[], Result], pauses_s: Sequence[float], what: str) -> Result:
    """Ask a device until it answers, with these pauses between the tries.

    Args:
        ask: Raises `LostError` if the device does not answer.
        pauses_s: Seconds before each further try.
        what: What could not be done, for the error.

    Raises:
        Unmeasured: The device answered in none of the tries.
    """
    patient = Retrying(
        retry=retry_if_exception_type(LostError),
        stop=stop_after_attempt(1 + len(pauses_s)),
        wait=wait_chain(*map(wait_fixed, pauses_s or [0.0])),
        reraise=True,
    )
    try:
        return patient(ask)
    except LostError as lost:
        raise Unmeasured(f"{what} in {1 + len(pauses_s)} tries: {lost}") from lost


@dataclass(frozen=True)
class Line:
    """How a host is reached.

    Attributes:
        host: As ``ssh`` takes it: ``pi5``, ``user@192.168.0.7``, an alias of ``~/.ssh/config``.
        options: More arguments for ``ssh``, such as ``("-p", "2222")``. They come after ours, and
            ``ssh`` goes by what it is told first: host keys are always checked.
    """

    host: str
    options: tuple[str, ...] = ()

    def command(self, remote: str) -> list[str]:
        """The command here that runs one in the host's shell.

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

    def said(
        self, remote: str, patience_s: float, given: IO[bytes] | None = None
    ) -> dict[str, Any] | Broken:
        """The framed answer of a command on the host, or why there is none.

        Args:
            remote: What its shell runs.
            patience_s: Seconds until it counts as hung.
            given: Its input; nothing if none.
        """
        # an earlier ssh (before 8.5) that stays to hold the connection keeps a pipe open: a file
        with tempfile.TemporaryFile() as stderr:
            try:
                done = subprocess.run(
                    self.command(remote),
                    stdin=given or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    timeout=patience_s,
                    check=False,
                    start_new_session=True,
                )
            except subprocess.TimeoutExpired:
                return Broken(f"no answer within {patience_s:g} s")
            stderr.seek(0)
            error = stderr.read().decode(errors="replace")
        code = done.returncode
        return framed(done.stdout) or Broken(f"it ended with exit code {code}", code, error)

    def ask(self, remote: str, patience_s: float, given: IO[bytes] | None = None) -> dict[str, Any]:
        """The framed answer of a command on the host; see `said`.

        Raises:
            BadInput: The host is not one to be let in, or does not let us in.
            LostError: It does not answer.
        """
        return self.heard(self.said(remote, patience_s, given))

    def heard(self, answer: dict[str, Any] | Broken) -> dict[str, Any]:
        """The answer, if it is one.

        Raises:
            BadInput: The host is not one to be let in, or does not let us in.
            LostError: It does not answer.
        """
        if not isinstance(answer, Broken):
            return answer
        if answer.code == _NO_CONNECTION:
            self._refuse(answer.said)
        lines = answer.said.strip().splitlines()
        raise LostError(f"{answer.cause}: {lines[-1].strip()}" if lines else answer.cause)

    def _refuse(self, said: str) -> None:
        """Tell of what will not change by trying again."""
        if "IDENTIFICATION HAS CHANGED" in said:
            name, scan = self._key_commands()
            raise Unavailable(
                f"{self.host} shows another host key than the one known here: somebody may be in "
                f"between; if it was installed anew, check its fingerprint, then run: "
                f"ssh-keygen -R {name} && {scan}"
            )
        if "Host key verification failed" in said or "host key is known for" in said:
            _, scan = self._key_commands()
            raise Unavailable(
                f"{self.host} has a host key that is not known here: check its fingerprint on the "
                f"device (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then run: {scan}"
            )
        if "Permission denied" in said or "Too many authentication failures" in said:
            raise Unavailable(
                f"{self.host} does not let us in without a password: run ssh-copy-id {self.host}, "
                f"or load the key with ssh-add"
            )

    def _key_commands(self) -> tuple[str, str]:
        """The host as known_hosts names it, and the command that adds its key there."""
        asked = ["ssh", "-G", *self.options, "--", self.host]
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        found = dict(line.partition(" ")[::2] for line in told.splitlines())
        name, port = found.get("hostname", self.host), found.get("port", "22")
        known = found.get("userknownhostsfile", "").split()
        file = known[0] if known else "~/.ssh/known_hosts"
        if port == "22":
            return name, f"ssh-keyscan {name} >> {file}"
        return shlex.quote(f"[{name}]:{port}"), f"ssh-keyscan -p {port} {name} >> {file}"

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """One user of the device at a time among the processes of this machine; waits its turn."""
        return turn_at(repr(self))


def turn_at(device: str) -> contextlib.AbstractContextManager[None]:
    """One process of this machine at a time; waits for its turn."""
    return locked(of_this_user(f"device-{digest(device.encode())}"))


@cache
def _sockets() -> Path:
    """This process's own folder for the sockets of its connections."""
    # a socket's path may have some hundred characters, which macOS's own TMPDIR leaves few of
    folder = tempfile.mkdtemp(prefix="protege-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
