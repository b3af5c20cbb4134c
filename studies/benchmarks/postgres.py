"""Run a PostgreSQL server on the loopback interface, to test studies whose server is stopped."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

USER = "postgres"
"""The user that runs the server if root starts it, since it refuses to run as root."""


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, of the newest installed version.

    Raises:
        LookupError: PostgreSQL is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    path = str(found[0]) if found else shutil.which(name)
    if not path:
        raise LookupError(f"PostgreSQL is not installed: no {name}")
    return path


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server: the folder of its databases, and its port."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        """The storage URL of the initial database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def database(self) -> str:
        """Create an empty database; return its storage URL."""
        name = f"empty_{uuid4().hex}"
        run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return f"{self.url.removesuffix(USER)}{name}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = f"-k {self.folder} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", "start")

    def kill(self) -> None:
        """Stop the server at once, dropping its connections."""
        run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


def run(name: str, *words: str) -> None:
    """Run one of PostgreSQL's programs as a user other than root."""
    who = {"user": USER} if os.geteuid() == 0 else {}
    # no pipes: the server would hold them open
    subprocess.run(
        [program(name), *words],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **who,  # type: ignore[call-overload]
    )


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Start a server in a folder; stop it after the block.

    Raises:
        LookupError: PostgreSQL is not installed.
    """
    program("initdb")
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    run("initdb", "-D", str(folder / "data"), "-U", USER, "-A", "trust", "--no-sync")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    found = Server(folder, port)
    found.start()
    try:
        yield found
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            found.kill()
