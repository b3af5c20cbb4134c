"""Where a study is stored: opened, found, read."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from protege.spaces import BadInput


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
            raise BadInput(f"{storage}: expected one study, found {len(names)}: {', '.join(names)}")
        if name is not None and name not in names:
            raise BadInput(f"{storage}: no study {name!r}; it has: {', '.join(names)}")
        return optuna.load_study(study_name=name or names[0], storage=opened)


def database_path(storage: str) -> Path | None:
    """The file of a SQLite storage; none for any other.

    Raises:
        BadInput: The text is not a storage URL, or nothing would be kept there.
    """
    try:
        url = make_url(storage)
    except ArgumentError:
        expected = "a URL such as sqlite:///runs/name/study.db or postgresql://host/name"
        raise BadInput(f"storage {storage!r}: expected {expected}") from None
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise BadInput(
            f"storage {storage!r}: in memory nothing is kept; expected a file or a server"
        )
    return Path(url.database)


def open_storage(storage: str) -> RDBStorage:
    """The storage, made if it is a SQLite file that does not exist yet.

    Raises:
        BadInput: The text is not a storage URL, or the file is not a SQLite database.
    """
    path = database_path(storage)
    if path is None:
        return RDBStorage(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # a reader (the dashboard) may hold the file for a moment
        return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 60}})
    except DatabaseError as error:
        if "not a database" in str(error):
            raise BadInput(f"{path}: not a SQLite database; expected a study.db") from error
        raise


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
