"""Turn errors of storages and records that a user can fix into `BadInput`."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import URL
from sqlalchemy.exc import InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

from protege.search.storage.locating import database_path, parsed_url, shown
from protege.spaces import BadInput

_OF_SQLITE = {
    "not a database": "not a SQLite database; expected a study.db",
    "malformed": "the database is damaged; restore a copy of it, or save what can be read with "
    "sqlite3 OLD.db .recover | sqlite3 NEW.db",
    "no such table": "tables of Optuna are missing from the database; restore a copy of it",
    "no such column": "the database is of another Optuna or damaged; restore a copy of it",
    "readonly database": "the database cannot be written, or was removed meanwhile; its file and "
    "folder must be on a disk that can be written",
    "unable to open": "the database cannot be opened; its folder must exist, and be on a disk that "
    "can be written if a process was killed while it wrote there",
    "disk I/O error": "the disk failed to read or write the database",
    "is locked": "another process holds the database; wait for it, or stop it first",
}
"""Explanations of SQLite's messages."""

_OF_DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    *(SQLAlchemyError, StorageInternalError),
)
"""Errors that damaged records cause."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Errors of full disks, which the command line explains."""


def shown_storage(storage: str | Path) -> str:
    """Return a storage for messages: the path of a file, or a server's URL without password."""
    return str(database_path(storage) or shown(parsed_url(storage)))


def is_away(error: Exception) -> bool:
    """Return whether the connection to a storage failed, not the request."""
    cause = _cause(error)
    if not isinstance(cause, OperationalError | InterfaceError):
        return False
    if any(words in str(cause) for words in ("disk is full", "No space left")):
        return False
    # of a file only a lock is temporary
    return "is locked" in str(cause) or not _is_of_sqlite(cause)


@contextmanager
def explained(storage: str | Path) -> Iterator[None]:
    """Explain the errors of a storage and of the files beside it.

    Raises:
        BadInput: The storage is damaged, of another Optuna, cannot be written or does not answer,
            or the system refuses to open a file.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = _reason(error)
        if not reason:
            raise
        raise BadInput(f"{shown_storage(storage)}: {reason}") from error
    except OSError as error:
        if error.filename is None or error.errno in _NO_ROOM:
            raise
        raise BadInput(f"{error.filename}: {error.strerror}; fix that, then run again") from error
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise BadInput(f"{shown_storage(storage)}: {error}") from error


@contextmanager
def undamaged(what: str, advice: str = "restore a copy of it") -> Iterator[None]:
    """Turn errors that a damaged record causes into `BadInput`.

    Raises:
        BadInput: The record is damaged.
    """
    try:
        yield
    except _OF_DAMAGE as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{what}: damaged ({type(error).__name__}: {said}); {advice}") from error


@contextmanager
def reached(url: URL) -> Iterator[None]:
    """Explain errors of the first connection to a server.

    Raises:
        BadInput: The server refuses or does not answer, or its driver is not installed.
    """
    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        advice = 'pip install "protege[postgresql]"' if "postgresql" in url.drivername else ""
        raise BadInput(
            f"storage {shown(url)}: its driver is not installed ({error}); {advice}"
        ) from None
    except OperationalError as error:
        raise BadInput(
            f"storage {shown(url)}: the server does not let us in ({_said(error)}); start it, or "
            "mend the URL"
        ) from error


def _reason(error: Exception) -> str:
    """Return the explanation of an error, or an empty string if there is none."""
    cause = _cause(error)
    if _is_of_sqlite(cause):
        found = (reason for words, reason in _OF_SQLITE.items() if words in str(cause))
        return next(found, "")
    if is_away(error):
        return f"the server is away ({_said(cause)}); run the same line again when it is back"
    return ""


def _cause(error: BaseException) -> BaseException:
    """Return the SQLAlchemy error that Optuna wrapped."""
    return (error.__cause__ or error) if isinstance(error, StorageInternalError) else error


def _is_of_sqlite(error: BaseException) -> bool:
    return type(getattr(error, "orig", None)).__module__ == "sqlite3"


def _said(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())
