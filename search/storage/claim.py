"""That one process alone goes on with a study, wherever its storage is and whatever its folder."""

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from protege.search.storage.explaining import reached
from protege.search.storage.locating import database_path
from protege.search.storage.storage import server_url
from protege.spaces import BadInput
from protege.spaces.files.hashing import digest
from protege.spaces.files.locks import holder, locked_at_once

LOCK = "study.lock"
"""The file in a run folder that the process which runs the study holds locked."""

GRACE_S = 5.0
"""A server needs a moment to see that a process was killed, and to let go of what it held."""

_LOST_S = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""When either side takes the other one for gone, of which nothing is heard any more."""

_HOLDER = text(
    "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND datname = current_database() "
    "AND (classid::bigint << 32) | objid::bigint = :key"
)


@contextmanager
def claimed(storage: str | Path, name: str) -> Iterator[Callable[[], None]]:
    """Claim a study for the time of the block; nobody else goes on with it.

    A file beside a storage that is one is locked; a PostgreSQL server is asked for a lock that
    lasts as long as a connection to it. Other servers have no such thing.

    Yields:
        What makes sure of it, before anything is stored: a server that was away has forgotten who
        held what.

    Raises:
        BadInput: Another process has it, or the server does not let us in.
    """
    path = database_path(storage)
    if path is not None:
        with held(path.parent, name, claim_file(path, name)):
            yield _nothing
        return
    url = server_url(storage)
    if url.get_backend_name() != "postgresql":
        yield _nothing
        return
    claim = Claim(url, name)
    with reached(url):
        claim.take()
    try:
        yield claim.take
    finally:
        claim.let_go()


@contextmanager
def held(folder: Path, name: str, file_name: str = LOCK) -> Iterator[None]:
    """Hold a study's folder; the kernel releases it however the process ends.

    Args:
        folder: The folder of the lock file; made if it does not exist.
        name: The study.
        file_name: The file in the folder that is locked.

    Raises:
        BadInput: Another process holds it, or the file is another user's or a symbolic link.
    """
    path = folder / file_name
    with locked_at_once(path) as is_held:
        if not is_held:
            raise refused(name, holder(path))
        yield


def refused(name: str, holder: str) -> BadInput:
    """That another process has a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )


def claim_file(database: Path, name: str) -> str:
    """Return the name of the file beside a storage that is locked for a study."""
    return f"{database.name}-{digest(name.encode())}.lock"


@dataclass
class Claim:
    """An advisory lock of PostgreSQL, on a connection of its own.

    Attributes:
        url: The database.
        name: The study.
    """

    url: URL = field(repr=False)  # its query may hold a password
    name: str
    _connection: Connection | None = field(default=None, init=False)
    _whose: str = field(init=False)
    """What the server calls the connection: whose it is, and that it is this claim's."""

    def __post_init__(self) -> None:
        self._whose = f"protege {os.getpid()}@{socket.gethostname()[:32]} {uuid4().hex[:8]}"

    def take(self) -> None:
        """Take it, or make sure that it is still held.

        Raises:
            BadInput: Another process has it.
        """
        if self._is_held():
            return
        connection = self._connected()
        patient = Retrying(
            retry=retry_if_result(lambda is_ours: not is_ours),
            stop=stop_after_delay(GRACE_S),
            wait=wait_fixed(0.1),
        )
        try:
            patient(self._tried, connection)
        except RetryError:
            holder = self._holder(connection)
            connection.close()
            raise refused(self.name, holder) from None
        self._connection = connection

    def let_go(self) -> None:
        """Leave the study to others."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            self.let_go()
            return False
        return True

    def _connected(self) -> Connection:
        options = {"application_name": self._whose, **_LOST_S}
        engine = create_engine(
            self.url, poolclass=NullPool, connect_args=options, hide_parameters=True
        )
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        for option, value in _LOST_S.items():
            connection.execute(text(f"SET tcp_{option} = {value}"))
        return connection

    def _tried(self, connection: Connection) -> bool:
        """Whether the lock is ours now; a connection that we have lost does not keep it from us."""
        if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), self._key).scalar():
            return True
        for pid, whose in connection.execute(_HOLDER, self._key):
            if whose == self._whose:
                connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        return False

    def _holder(self, connection: Connection) -> str:
        """Who has it, as process and machine."""
        found = connection.execute(_HOLDER, self._key).first()
        words = str(found.application_name).split() if found else []
        return words[1] if len(words) == 3 else "unknown"

    @property
    def _key(self) -> dict[str, int]:
        named = hashlib.sha256(f"protege {self.name}".encode()).digest()
        return {"key": int.from_bytes(named[:8], signed=True)}


def _nothing() -> None:
    """A file is not forgotten who has locked it."""
