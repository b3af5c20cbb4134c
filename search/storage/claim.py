"""Locks that let only one process run a study."""

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
"""The lock file in a run folder."""

GRACE_S = 5.0
"""Seconds that a server may take to release the locks of a killed process."""

_LOST_S = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""TCP keepalive settings, after which a silent connection counts as lost."""

_HOLDER = text(
    "SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND datname = current_database() "
    "AND (classid::bigint << 32) | objid::bigint = :key"
)


@contextmanager
def claimed(storage: str | Path, name: str) -> Iterator[Callable[[], None]]:
    """Claim a study in the block, so that no other process runs it.

    For a file storage a lock file beside it is locked; for PostgreSQL an advisory lock is taken,
    which lasts as long as its connection. Other servers have no such lock.

    Yields:
        A function that renews the claim if needed, to be called before every write: a server that
        restarted has lost its locks.

    Raises:
        BadInput: Another process has claimed the study, or the connection fails.
    """
    path = database_path(storage)
    if path is not None:
        with held(path.parent, name, claim_file(path, name)):
            yield lambda: None  # file locks need no renewal
        return
    url = server_url(storage)
    if url.get_backend_name() != "postgresql":
        yield lambda: None
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
    """Lock a study's folder; the kernel releases the lock however the process ends.

    Args:
        folder: The folder of the lock file; made if it does not exist.
        name: The study.
        file_name: Name of the lock file.

    Raises:
        BadInput: Another process holds the lock, or the file is another user's or a symbolic link.
    """
    path = folder / file_name
    with locked_at_once(path) as is_held:
        if not is_held:
            raise refused(name, holder(path))
        yield


def refused(name: str, holder: str) -> BadInput:
    """Return the error that another process runs a study."""
    return BadInput(
        f"study {name!r} is being run by process {holder}; wait for it, or stop it first"
    )


def claim_file(database: Path, name: str) -> str:
    """Return the name of a study's lock file beside its storage."""
    return f"{database.name}-{digest(name.encode())}.lock"


@dataclass
class Claim:
    """An advisory lock of PostgreSQL on its own connection.

    Attributes:
        url: The database.
        name: The study.
    """

    url: URL = field(repr=False)  # its query may hold a password
    name: str
    _connection: Connection | None = field(default=None, init=False)
    _whose: str = field(init=False)
    """The connection's application name: process, host and a unique suffix."""

    def __post_init__(self) -> None:
        self._whose = f"protege {os.getpid()}@{socket.gethostname()[:32]} {uuid4().hex[:8]}"

    def take(self) -> None:
        """Take the lock, or check that it is still held.

        Raises:
            BadInput: Another process holds it.
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
        """Release the lock."""
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
        """Try to take the lock; end a lost connection of this claim that still holds it."""
        if connection.execute(text("SELECT pg_try_advisory_lock(:key)"), self._key).scalar():
            return True
        for pid, whose in connection.execute(_HOLDER, self._key):
            if whose == self._whose:
                connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        return False

    def _holder(self, connection: Connection) -> str:
        """Return the process and host that hold the lock."""
        found = connection.execute(_HOLDER, self._key).first()
        words = str(found.application_name).split() if found else []
        return words[1] if len(words) == 3 else "unknown"

    @property
    def _key(self) -> dict[str, int]:
        named = bytes.fromhex(digest(f"protege {self.name}".encode()))
        return {"key": int.from_bytes(named, signed=True)}
