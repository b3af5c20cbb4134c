"""Upload of the front's weights to an artifact store, and download from it."""

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from optuna.artifacts import ArtifactMeta
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import Study

from protege.search.records.results import checksum, damage, replacing_weights, stored_files
from protege.search.storage.format import RUN
from protege.search.storage.storage import PATIENCE_S, with_retries
from protege.search.study.store import Store, StoreError
from protege.spaces import BadInput

_LOG = logging.getLogger("protege")

DECLARED = "artifacts:"
"""Prefix of the study attributes in which Optuna declares artifacts."""


@dataclass
class Artifacts:
    """Uploads the weights of the front to a store.

    Each student is an archive, named by the study's run, the trial and the checksum of the weights.
    So every operation can be repeated, and studies can share a store. Archives are declared as
    artifacts of the Optuna study, which its dashboard shows.

    An unreachable store fails no trial: after a while the study continues with the weights in the
    run folder, and each `sync` retries the upload.

    Attributes:
        study: The study.
        store: Holds the archives.
        patience_s: Seconds to wait for an unreachable store, once until it is back.
    """

    study: Study
    store: Store
    patience_s: float = PATIENCE_S
    _settled: set[str] | None = field(default=None, init=False, repr=False)
    _waited: bool = field(default=False, init=False, repr=False)

    @classmethod
    def of(cls, study: Study, url: str) -> "Artifacts | None":
        """Return the artifacts of a study in the store at a URL, or None without a URL."""
        return cls(study, Store.at(url)) if url else None

    def put(self, stored: Path) -> None:
        """Upload intact weights of a trial; to be called before the trial is recorded."""
        if not damage(stored) and not self._done(lambda: self._send(stored)):
            self._settled = None

    def sync(self, front: Iterable[Path]) -> None:
        """Upload missing weights of the front, and remove all others of the study."""
        kept = {path.name: path for path in front}
        if self._settled != set(kept) and self._done(lambda: self._settle(kept.values())):
            self._settled = set(kept)

    def _done(self, operation: Callable[[], object]) -> bool:
        """Run a repeatable operation with retries; return whether it succeeded."""
        try:
            # the inner call waits for the storage, without which there is no study
            with_retries(
                lambda: with_retries(operation),
                0.0 if self._waited else self.patience_s,
                lambda error: isinstance(error, StoreError) and error.is_temporary,
                f"artifacts {self.store.url}",
            )
        except StoreError as error:
            if not self._waited:
                _LOG.warning(
                    "protege: %s; the study goes on, weights are kept in the run folder and sent "
                    "after a later trial, or by a later run",
                    error,
                )
            self._waited = True
            return False
        self._waited = False
        return True

    def _settle(self, front: Iterable[Path]) -> None:
        there = {one for one in self.store.ids() if one.startswith(self._run)}
        kept: set[str] = set()
        for stored in front:
            name = archive_name(self._run, stored, checksum(stored))
            if name in there:
                kept.add(name)
            elif damage(stored):
                kept |= {one for one in there if one.startswith(_prefix(self._run, stored))}
            else:
                kept.add(self._send(stored))
        for unwanted in there - kept:
            self.store.remove(unwanted)

    def _send(self, stored: Path) -> str:
        """Declare and upload the weights in a folder; return the name of the archive."""
        name = archive_name(self._run, stored, checksum(stored))
        shown = f"{stored.name}-{checksum(stored)}.zip"
        about = ArtifactMeta(name, shown, "application/zip", None)
        # Optuna has no public way to declare an artifact under a given id
        storage, number = self.study._storage, self.study._study_id  # noqa: SLF001
        storage.set_study_system_attr(number, f"{DECLARED}{name}", json.dumps(asdict(about)))
        # uncompressed: weights hardly compress
        with (
            self.store.writing(name) as file,
            ZipFile(file, "w", strict_timestamps=False) as archive,
        ):
            for one in stored_files(stored):
                archive.write(stored / one, one)
        return name

    @property
    def _run(self) -> str:
        """The id that the study shares with its run folder."""
        return str(self.study.user_attrs[RUN])


@dataclass(frozen=True)
class UploadedWeights:
    """The uploaded weights of a study, for reading.

    Attributes:
        url: The store.
        run: The id that the study shares with its run folder.
    """

    url: str
    run: str

    def fetch(self, stored: Path, expected: str) -> None:
        """Download the weights of a trial atomically, if they are in the store.

        Raises:
            BadInput: The store cannot be read, or the weights differ from those sent.
        """
        store, name = Store.at(self.url), archive_name(self.run, stored, expected)
        with (
            suppress(ArtifactNotFound),
            store.explained(),
            store.open_reader(name) as file,
            replacing_weights(stored) as folder,
        ):
            # a file of s3fs raises ValueError where it is too short to be an archive
            with suppress(BadZipFile, ValueError), ZipFile(file) as archive:
                archive.extractall(folder)
            if damage(folder, expected):
                raise BadInput(
                    f"{store.url}/{name}: not what was sent; remove it, then run the study again "
                    "where its run folder is to upload it again"
                )


def archive_name(run: str, stored: Path, checksum: str) -> str:
    """Return the name of the archive of a trial's weights.

    It has hexadecimal digits and hyphens only: Optuna Dashboard serves no others.
    """
    return f"{_prefix(run, stored)}{checksum}"


def _prefix(run: str, stored: Path) -> str:
    """Return what the names of a trial's archives begin with."""
    return f"{run}-{stored.name.rpartition('-')[2]}-"
