"""Where a study is stored: opened, found, read."""

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.pool import NullPool

from protege.search.progress import complain
from protege.search.study.journal import mend
from protege.spaces import BadInput
from protege.spaces.redaction import HIDDEN, without_secrets

Result = TypeVar("Result")

JOURNAL = "journal"
"""The scheme of Optuna's append-only file, which is safe on network file systems."""

FILES = ("sqlite", JOURNAL)
"""Schemes of storages that are files."""

_BEFORE_HOST = re.compile(r"^([\w+.-]*:/*)?.*@", re.DOTALL)
"""What a text that is no URL may have of a user and a password."""

_MADE = ("already exists", "UNIQUE", "duplicate key")
"""What a server says of a table that somebody else has made meanwhile."""

ATTEMPTS = 8
"""So often tables are looked for while somebody else makes them."""

PATIENCE_S = 300.0
"""How long a server may be away in the midst of a study."""


def read_study(storage: str, name: str | None = None) -> Study:
    """A study that exists, for reading.

    Raises:
        BadInput: There is no storage, or no study, or more than one and no name.
    """
    path = database_path(storage)
    if path is not None and not path.exists():
        raise BadInput(f"{path}: no study there; expected a study.db or the run folder it is in")
    with calm():
        opened = open_storage(storage)
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) != 1:
            found = f"{len(names)}: {', '.join(names)}"
            raise BadInput(f"{shown(storage)}: expected one study, found {found}")
        if name is not None and name not in names:
            has = ", ".join(names)
            raise BadInput(f"{shown(storage)}: no study {name!r}; it has: {has}")
        return optuna.load_study(study_name=name or names[0], storage=opened)


def shown(storage: str | URL) -> str:
    """Return a storage URL as messages may name it, without any secret.

    The password is hidden, and the query, which may hold another, is left out. Of text that cannot
    be parsed everything before the last ``@`` is hidden.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        return without_secrets(_BEFORE_HOST.sub(rf"\g<1>{HIDDEN}@", str(storage)))
    if url.get_backend_name() in FILES and not url.password:
        return without_secrets(str(storage))
    query = f"?{HIDDEN}" if url.query else ""
    return without_secrets(url.set(query={}).render_as_string(hide_password=True)) + query


def database_path(storage: str) -> Path | None:
    """The file of a SQLite database or of a journal; none for a server.

    Raises:
        BadInput: The text is not a storage URL, or nothing would be kept there.
    """
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        expected = (
            "a URL such as sqlite:///runs/name/study.db, journal:///runs/name/study.log or "
            "postgresql://host/name"
        )
        raise BadInput(f"storage {shown(storage)!r}: expected {expected}") from None
    if "@" in (url.host or ""):
        raise BadInput(f"storage {shown(storage)}: write an @ in the password as %40")
    if url.get_backend_name() not in FILES:
        return None
    if not url.database or url.database == ":memory:":
        raise BadInput(
            f"storage {shown(url)!r}: in memory nothing is kept; expected a file or a server"
        )
    return Path(url.database)


def open_storage(storage: str) -> BaseStorage:
    """The storage, made if it is a file that does not exist yet.

    Raises:
        BadInput: The text is not a storage URL, the file is no storage, the server does not
            answer, or its driver is not installed.
    """
    path = database_path(storage)
    if path is None:
        return _on_a_server(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    if make_url(storage).drivername == JOURNAL:
        mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        # a reader (the dashboard) may hold the file for a moment
        return _tables(storage, poolclass=NullPool, connect_args={"timeout": 60})
    except DatabaseError as error:
        if "not a database" in str(error):
            raise BadInput(f"{path}: not a SQLite database; expected a study.db") from error
        raise
    except RuntimeError as error:  # Optuna says which version wrote it, and what to run
        if "table schema" not in str(error):
            raise
        raise BadInput(f"{path}: {error}") from error


def _tables(storage: str, **options: Any) -> RDBStorage:
    """The tables of a storage, made if there are none."""
    tries = 0
    while True:
        try:
            return RDBStorage(storage, engine_kwargs={"hide_parameters": True, **options})
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            tries += 1
            ours = not any(words in str(error) for words in _MADE)
            if ours or tries == ATTEMPTS:
                raise
        # somebody else, a reader perhaps, makes them at the same moment, one after another
        time.sleep(0.1 * tries)


def _on_a_server(storage: str) -> RDBStorage:
    url = server_url(storage)
    with reached(url):
        # no pool: a study asks for little, and a connection that was lost is none that is kept
        return _tables(url.render_as_string(hide_password=False), poolclass=NullPool)


def server_url(storage: str) -> URL:
    """The URL of a server, with the driver that is asked for."""
    url = make_url(storage)
    # without a word SQLAlchemy takes the driver before
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


@contextmanager
def reached(url: URL) -> Iterator[None]:
    """Where a server is first asked for something.

    Raises:
        BadInput: It does not answer, or its driver is not installed.
    """
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        advice = 'pip install "protege[postgresql]"' if "postgresql" in url.drivername else ""
        raise BadInput(
            f"storage {shown(url)}: its driver is not installed ({error}); {advice}"
        ) from None
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise BadInput(
            f"storage {shown(url)}: the server does not let us in ({reason}); start it, or mend "
            "the URL"
        ) from error


def is_away(error: Exception) -> bool:
    """Whether it is the connection to a storage that failed, and not what was asked for."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    return not any(words in str(cause) for words in ("disk is full", "No space left", "readonly"))


def insist(
    operation: Callable[[], Result],
    patience_s: float = PATIENCE_S,
    away: Callable[[Exception], bool] = is_away,
    what: str = "the storage",
) -> Result:
    """Do what can be done twice, again and again while a server is away.

    Args:
        operation: What to do.
        patience_s: For how long it is tried.
        away: Whether an error means that the server is away.
        what: Is away, as a person is told.

    Returns:
        What came of it. If it did not come to that, the last error is raised as it is.
    """
    until = time.monotonic() + patience_s
    pause_s = 0.1
    while True:
        try:
            return operation()
        except Exception as error:
            if not away(error) or time.monotonic() > until:
                raise
            if pause_s == 0.1:
                complain(f"protege: {what} is away, trying again for {patience_s:g} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)


def asked_for(study: Study) -> set[str]:
    """Keys of the architectures asked for so far, told or not."""
    trials: Sequence[FrozenTrial] = study.get_trials(deepcopy=False)
    return {t.user_attrs["key"] for t in trials if "key" in t.user_attrs}


@contextmanager
def calm() -> Iterator[None]:
    """Without Optuna's notes on what it calls experimental, and its log of every trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
