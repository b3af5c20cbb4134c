"""A real SSH server on the loopback, with keys of its own, standing for a device."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVER = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Board:
    """The server, and what its client is told.

    Attributes:
        home: Where everything of it is.
        config: The client's configuration; knows the server as ``board``.
        port: Where it listens.
        pid: Of the process that listens.
    """

    home: Path
    config: Path
    port: int
    pid: int

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    @property
    def options(self) -> tuple[str, ...]:
        return ("-F", str(self.config))

    @property
    def folder(self) -> Path:
        """What a target may keep things in."""
        return self.home / "device"

    def measuring(self) -> list[int]:
        """The runners that are at work in the folder, or in one of its folders."""
        runner = re.compile(rf"{re.escape(str(self.folder))}\S*/protege-runner")
        return [pid for pid in processes() if runner.search(command(pid))]

    def cut(self) -> None:
        """End every connection, as when a cable is pulled out."""
        for pid in descendants(self.pid):
            if "sshd" in command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stub(self, name: str, text: str) -> Path:
        """An executable of the device's."""
        path = self.home / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Board]:
    """A server that lets in its own client's key, for as long as the block runs."""
    for name in ("host", "client"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(key, check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's must be able to go
    port = free_port()
    server = home / "sshd_config"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/client.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    config = home / "ssh_config"
    config.write_text(
        f"Host board\nHostName 127.0.0.1\nPort {port}\nIdentityFile {home}/client\n"
        f"IdentitiesOnly yes\nUserKnownHostsFile {home}/known_hosts\n"
        "GlobalKnownHostsFile none\n"
    )
    with (home / "sshd.log").open("wb") as log:
        process = subprocess.Popen([str(SERVER), "-D", "-e", "-f", str(server)], stderr=log)
        try:
            board = Board(home, config, port, process.pid)
            know(board)
            yield board
            board.cut()
        finally:
            process.kill()
            process.wait()


def know(board: Board) -> None:
    """Note the server's key as one that was checked, once the server answers."""
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(board.port), "127.0.0.1"]
    for _ in range(100):
        found = subprocess.run(scan, capture_output=True, text=True, check=False).stdout
        if found:
            board.known_hosts.write_text(found)
            return
        time.sleep(0.1)
    raise RuntimeError((board.home / "sshd.log").read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    parents = {}
    for one in processes():
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            parents[one] = int(stat[1])
    found, added = [pid], [pid]
    while added:
        added = [one for one, parent in parents.items() if parent in added]
        found += added
    return found[1:]


def missing() -> str:
    """Why there can be no server here; empty where there can."""
    if sys.platform != "linux":
        return "processes are watched in /proc"
    absent = [name for name in ("ssh", "ssh-keygen", "ssh-keyscan") if shutil.which(name) is None]
    if SERVER is None:
        absent.append("sshd")
    return f"{', '.join(absent)} not installed (openssh-server)" if absent else ""
