"""The run folder of a study, identified by a marker file.

protege writes and removes files of a run only in this folder. The marker has a random id that is
stored in the study too, so that no other study or folder of the same name is mistaken for it.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from protege.search.storage.claim import LOCK, claim_file
from protege.search.storage.explaining import undamaged
from protege.search.storage.format import check_format, written_by
from protege.search.storage.locating import database_path, default_folder, is_url, url_of_file
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, is_scratch_of, raise_if_full, write_text

MARKER = "protege-run.json"

DATABASE = "study.db"
"""The default database in a run folder."""


@dataclass(frozen=True)
class Marker:
    """The content of a marker file.

    Attributes:
        study: The name of the study.
        run: The id that the study has too; empty until the study exists.
        database: The database file, relative to the folder; empty for a server.
    """

    study: str
    run: str = ""
    database: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Marker | None":
        """Read the marker of a folder, or return None if there is none.

        Raises:
            BadInput: The marker is damaged or has another format.
        """
        path = folder / MARKER
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        with undamaged(str(path), "restore a copy of it, or move the folder away"):
            stored = dict(json.loads(text))
            check_format(stored, str(folder))
            found = {name: stored[name] for name in ("study", "run", "database")}
            if not all(isinstance(value, str) for value in found.values()):
                raise TypeError(f"expected texts, found {found}")
        return cls(**found)

    def text(self) -> str:
        """Return the content of the marker file."""
        return json.dumps({**written_by(), **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True)
class RunLocation:
    """The location of a run, from a folder, a file or a URL.

    Attributes:
        storage: The storage.
        study: The name of the study; empty if unknown.
        folder: The run folder, or None if unknown.
    """

    storage: str
    study: str = ""
    folder: Path | None = None


def is_run(word: str) -> bool:
    """Return whether a word of a command line is a run folder."""
    return any((Path(word) / name).is_file() for name in (MARKER, DATABASE))


def locate_run(run: str | Path) -> RunLocation:
    """Locate a run by its folder, its database file or its storage URL.

    Raises:
        BadInput: The study of the folder is on a server.
    """
    if isinstance(run, str) and is_url(run):
        return RunLocation(run)
    path = Path(run).expanduser()
    if not path.is_dir():
        return RunLocation(url_of_file(path))
    marker = Marker.read(path)
    if marker is None:
        return RunLocation(url_of_file(path / DATABASE), "", path)
    if not marker.database:
        raise BadInput(
            f"{path}: its study {marker.study!r} is on a server; give the URL of the storage, or "
            "the study file"
        )
    database = Path(os.path.normpath(path.resolve() / marker.database))
    return RunLocation(url_of_file(database), marker.study, path)


def find_run_folder(place: RunLocation, name: str, run: str, recorded: str) -> Path:
    """Find the run folder of a study by its marker.

    Args:
        place: Where the study was read from.
        name: The study.
        run: Its id.
        recorded: The folder in the study's record, maybe of another machine.

    Returns:
        The folder; ``runs/<name>`` in the working directory if none is found.
    """
    database = database_path(place.storage)
    beside = database.parent if database else Path()
    candidates = [
        *([place.folder] if place.folder else []),
        beside / recorded,
        beside,
        default_folder(name, database),
    ]
    own = (path for path in candidates if RunFolder(path, name).is_of(run))
    return next(own, default_folder(name, None))


@dataclass(frozen=True)
class RunFolder:
    """The run folder of one study.

    Attributes:
        path: The folder.
        study: The name of the study.
        database: The database file, or None for a server.
    """

    path: Path
    study: str
    database: Path | None = None

    def check(self, run: str = "") -> Marker | None:
        """Return the marker, or None if the folder is new and may be claimed.

        Raises:
            BadInput: The folder is another study's, or has something in it and no marker.
        """
        found = Marker.read(self.path)
        if found is None:
            self._check_is_empty()
            return None
        if found.study != self.study:
            raise BadInput(
                f"{self.path}: the run folder of study {found.study!r}, not of {self.study!r}; "
                "give this study another folder"
            )
        if run and found.run and found.run != run:
            raise BadInput(
                f"{self.path}: the run folder of another study {self.study!r} (run "
                f"{found.run[:8]}, here it is {run[:8]}); move the folder away, or give this study "
                "another folder or name"
            )
        return found

    def claim(self) -> None:
        """Create and mark the folder, unless it is marked.

        Raises:
            BadInput: The folder is another study's, or has something in it and no marker.
        """
        if self.check() is None:
            self._mark(Marker(self.study, "", self._way_to_database()))
            self.check()  # another process may have been faster

    def bind(self, run: str) -> bool:
        """Mark the folder with the id of its study.

        Returns:
            Whether the folder was new.

        Raises:
            BadInput: The folder is another study's, or has something in it and no marker.
        """
        found = self.check(run)
        wanted = Marker(self.study, run, self._way_to_database())
        if found is None:
            self._mark(wanted)
            self.check(run)
        elif found != wanted:
            write_text(self.path / MARKER, wanted.text())
        return found is None or not found.run

    def require(self, run: str) -> None:
        """Check that the folder still exists and is the study's.

        Raises:
            BadInput: It was removed, moved or replaced.
        """
        found = Marker.read(self.path)
        if found is None or found.run != run:
            raise BadInput(
                f"{self.path}: the run folder of study {self.study!r} was removed or replaced "
                "meanwhile; bring it back, or run the study again to begin a new one"
            )

    def is_of(self, run: str) -> bool:
        """Return whether the folder exists and belongs to the study with this id."""
        with suppress(BadInput):
            found = Marker.read(self.path)
            return found is not None and bool(run) and found.run == run
        return False

    def _check_is_empty(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise BadInput(f"{self.path}: not a folder; give the study another one")
        found = {one.name for one in self.path.iterdir()} if self.path.is_dir() else set()
        others = sorted(
            name for name in found - {*self._own_names()} if not is_scratch_of(name, MARKER)
        )
        if others:
            raise BadInput(
                f"{self.path}: not empty (it has {others[0]!r}) and not a run folder of protege; "
                f"give study {self.study!r} a new folder, Search(folder=...)"
            )

    def _own_names(self) -> Iterator[str]:
        """Yield names of protege's files that may exist before the folder is marked."""
        yield LOCK
        if self.database and self.database.parent.resolve() == self.path.resolve():
            name = self.database.name
            yield from (f"{name}{end}" for end in ("", "-journal", "-wal", "-shm", ".lock"))
            yield claim_file(self.database, self.study)

    def _mark(self, marker: Marker) -> None:
        """Write the marker of a new folder; of several processes the first one wins."""
        path = self.path / MARKER
        scratch = atomic(path).scratch
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(marker.text(), encoding="utf-8")
            self._name_as_marker(scratch, path)
        except OSError as error:
            raise_if_full(path, error)
            raise
        finally:
            scratch.unlink(missing_ok=True)

    @staticmethod
    def _name_as_marker(scratch: Path, path: Path) -> None:
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            scratch.replace(path)

    def _way_to_database(self) -> str:
        if self.database is None:
            return ""
        return os.path.relpath(self.database.resolve(), self.path.resolve())
