"""Open and read the Optuna storage of a study."""

import json
import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_message,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_incrementing,
)

from protege.search.storage.explaining import explained, is_away, reached, shown_storage, undamaged
from protege.search.storage.locating import JOURNAL, database_path, parsed_url, shown
from protege.spaces import BadInput

Result = TypeVar("Result")

_MADE = "(?s).*(already exists|UNIQUE|duplicate key)"
"""What a server says of a table that somebody else has made meanwhile."""

_LOG = logging.getLogger("protege")

ATTEMPTS = 8
"""Attempts to open tables while another process creates them."""

PATIENCE_S = 300.0
"""Seconds that a server may be unreachable during a study."""

WAITS_S = 60.0
"""Seconds that SQLite waits for a reader, such as the dashboard, that locks the file."""

_NO_STUDY = "no study there; expected a study.db or the run folder it is in"

OptunaStudy = Study
"""An Optuna study, for modules that only pass it on."""


def read_study(storage: str | Path, name: str | None = None) -> Study:
    """Open an existing study for reading, without writing anything.

    Raises:
        BadInput: There is no storage, it cannot be read, or it has no such study, or several and no
            name is given.
    """
    path, shown = database_path(storage), shown_storage(storage)
    if path is not None and not path.is_file():
        raise BadInput(f"{path}: {_NO_STUDY}")
    with quiet_optuna(), explained(storage):
        opened = _opened_to_read(storage)
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) != 1:
            advice = "; name one of them, or give its run folder" if names else ""
            raise BadInput(
                f"{shown}: expected one study, found {len(names)}: {', '.join(names)}{advice}"
            )
        if name is not None and name not in names:
            raise BadInput(f"{shown}: no study {name!r}; it has: {', '.join(names)}")
        return optuna.load_study(study_name=name or names[0], storage=opened)


def open_storage(storage: str | Path) -> BaseStorage:
    """Open a storage for writing; a missing file is created.

    Raises:
        BadInput: The text is not a storage URL, the file is not a storage, the server does not
            answer, or its driver is not installed.
    """
    path = database_path(storage)
    with explained(storage):
        if path is None:
            url = server_url(storage)
            with reached(url):
                return _tables(*_server(url))
        path.parent.mkdir(parents=True, exist_ok=True)
        if parsed_url(storage).drivername == JOURNAL:
            repair_journal(path)
            return _journal(path)
        return _tables(*_sqlite(path, "rwc"))


def _opened_to_read(storage: str | Path) -> BaseStorage:
    path = database_path(storage)
    if path is None:
        url = server_url(storage)
        with reached(url):
            return _tables_to_read(*_server(url), shown(url))
    if parsed_url(storage).drivername == JOURNAL:
        return _journal(path)
    # a database that cannot be written is opened such that SQLite does not try to
    return _tables_to_read(*_sqlite(path, "rw" if os.access(path, os.W_OK) else "ro"), str(path))


def _journal(path: Path) -> JournalStorage:
    with undamaged(str(path), "cut the journal off before the first line that is not whole JSON"):
        return JournalStorage(JournalFileBackend(str(path)))


def repair_journal(path: Path) -> None:
    """Remove the partial last line that a killed process left in a journal.

    Optuna ignores such a line when reading, but appends to it, after which the journal cannot be
    read. A complete last line without a line break gets one.
    """
    if not path.is_file() or not _rest(path):
        return
    lock = JournalFileSymlinkLock(str(path))  # Optuna appends under this lock
    lock.acquire()
    try:
        rest = _rest(path)
        with path.open("r+b") as file:
            if _is_whole(rest):
                file.seek(0, 2)
                file.write(b"\n")
            else:
                file.truncate(path.stat().st_size - len(rest))
    finally:
        lock.release()


def _rest(path: Path) -> bytes:
    """Return the text after the last line break."""
    return path.read_bytes().rpartition(b"\n")[2]


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _sqlite(path: Path, mode: str) -> tuple[str, dict[str, Any]]:
    """Return URL and engine options of a SQLite file for `RDBStorage`.

    The path is not part of the URL, in which SQLAlchemy and Optuna interpret ``?``, ``%``, ``{``.
    """
    file = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    connect = partial(sqlite3.connect, file, timeout=WAITS_S, check_same_thread=False, uri=True)
    # no pool, which would keep files open
    options = {"creator": connect, "hide_parameters": True, "poolclass": NullPool}
    return "sqlite:///study.db", options


def _server(url: URL) -> tuple[str, dict[str, Any]]:
    """Return URL and engine options of a server for `RDBStorage`."""
    text = url.render_as_string(hide_password=False)
    # Optuna formats the URL; no pool, as queries are rare and a lost connection is not kept
    options = {"poolclass": NullPool, "hide_parameters": True}
    return text.replace("{", "{{").replace("}", "}}"), options


def _tables(url: str, options: dict[str, Any]) -> RDBStorage:
    """Open the tables of a storage, and create missing ones."""
    # another process may be creating them
    patient = Retrying(
        retry=retry_if_exception_type((IntegrityError, OperationalError, ProgrammingError))
        & retry_if_exception_message(match=_MADE),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_incrementing(start=0.1, increment=0.1),
        reraise=True,
    )
    return patient(RDBStorage, url, engine_kwargs=options)


def _tables_to_read(url: str, options: dict[str, Any], shown: str) -> RDBStorage:
    """Open the tables of a storage for reading, without creating any.

    Raises:
        BadInput: The database has no tables of Optuna.
    """
    engine = sqlalchemy.create_engine(url.replace("{{", "{").replace("}}", "}"), **options)
    try:
        if not sqlalchemy.inspect(engine).has_table("studies"):
            raise BadInput(f"{shown}: {_NO_STUDY}")
    finally:
        engine.dispose()
    return RDBStorage(url, engine_kwargs=options, skip_table_creation=True)


def server_url(storage: str | Path) -> URL:
    """Return the URL of a server, with the driver that protege installs."""
    url = parsed_url(storage)
    # SQLAlchemy's default is psycopg2
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def with_retries(
    operation: Callable[[], Result],
    patience_s: float = PATIENCE_S,
    away: Callable[[Exception], bool] = is_away,
    what: str = "the storage",
) -> Result:
    """Run a repeatable operation, with retries while a server is unreachable.

    Args:
        operation: The operation.
        patience_s: Seconds to retry for; then the last error is raised.
        away: Returns whether an error means that the server is unreachable.
        what: Name of the server for the message.

    Returns:
        The result of the operation.
    """

    def warn(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            _LOG.warning("protege: %s is away, trying again for %g s", what, patience_s)

    patient = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and away(error)),
        stop=stop_after_delay(patience_s),
        wait=wait_exponential(multiplier=0.1, max=5.0),
        before_sleep=warn,
        reraise=True,
    )
    return patient(operation)


def asked_for(study: Study) -> set[str]:
    """Return the keys of all architectures tried so far, finished or not."""
    trials: Sequence[FrozenTrial] = study.get_trials(deepcopy=False)
    return {t.user_attrs["key"] for t in trials if "key" in t.user_attrs}


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's warnings on experimental features and its log of every trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
