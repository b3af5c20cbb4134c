"""Upload of the front's weights to an artifact store, and download from it."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from optuna.artifacts import download_artifact, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import Study

from protege.search.records.results import checksum, damage, packed, replacing, stored_files
from protege.search.storage.storage import PATIENCE_S, insist
from protege.search.study.store import Store, StoreError
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, remove

_LOG = logging.getLogger("protege")

NAME = re.compile(r"(?P<folder>trial-\d+)-[0-9a-f]{16}\.zip")
"""File name of an artifact: the folder of weights and their checksum."""

DECLARED = "artifacts:"
"""Prefix of the study attributes in which Optuna declares artifacts."""


@dataclass
class Artifacts:
    """Uploads the weights of the front to a store.

    Each student is one artifact of the study, as Optuna adds none to finished trials. Optuna
    declares an artifact in the study before it uploads the content. So every operation here can be
    repeated: declared artifacts are uploaded under their id, and no unknown objects can appear.
    Declarations cannot be removed; `Store.ids` lists what is in the store.

    An unreachable store fails no trial: after a while the study continues with the weights in the
    run folder, and each `sync` retries the upload.

    Attributes:
        study: Holds the declarations.
        store: Holds the content.
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
        """Upload the weights of a trial; to be called before the trial is recorded."""
        if damage(stored):
            return  # missing or damaged
        with _packed(stored) as file:
            if not self._done(lambda: self._send(file)):
                self._settled = None

    def sync(self, front: Iterable[Path]) -> None:
        """Upload missing weights of the front, and remove all others of the study.

        Args:
            front: The folders with the weights of its trials.
        """
        kept = {path.name: path for path in front}
        if self._settled != set(kept) and self._done(lambda: self._settle(kept.values())):
            self._settled = set(kept)

    def _done(self, operation: Callable[[], object]) -> bool:
        """Run a repeatable operation with retries; return whether it succeeded."""
        try:
            # the inner call waits for the storage, without which there is no study
            insist(
                lambda: insist(operation),
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

    def _send(self, file: Path) -> str:
        """Upload a file, declaring it if needed; return the id of the artifact."""
        known = declared(self.study).get(file.name)
        if known is None:
            return upload_artifact(
                artifact_store=self.store, file_path=str(file), study_or_trial=self.study
            )
        with file.open("rb") as content:
            self.store.write(known, content)
        return known

    def _settle(self, front: Iterable[Path]) -> None:
        ids = declared(self.study)
        there = self.store.ids() & {*ids.values()}
        kept = {one for stored in front for one in self._kept(stored, ids, there)}
        for unwanted in there - kept:
            self.store.remove(unwanted)

    def _kept(self, stored: Path, ids: Mapping[str, str], there: set[str]) -> set[str]:
        """Return the ids of a trial's artifacts, after uploading if needed; empty if lost."""
        known = {*_of(stored, ids).values()}
        # two, if a trial was killed and its repetition differs in the last digits
        if len(known) == 1 and known <= there:
            return known
        if damage(stored):
            return known & there
        with _packed(stored) as file:
            own = ids.get(file.name)
            return {own if own in there else self._send(file)}


@dataclass(frozen=True)
class Sent:
    """The uploaded weights of a study, for reading.

    Attributes:
        url: The store.
        ids: Ids of artifacts by file name.
    """

    url: str
    ids: Mapping[str, str]

    @classmethod
    def by(cls, study: Study, url: str) -> "Sent | None":
        """Return what a study has uploaded to the store at a URL, or None without a URL."""
        return cls(url, declared(study)) if url else None

    def fetch(self, stored: Path) -> None:
        """Download the weights of a trial atomically, if they are in the store.

        Raises:
            BadInput: The store cannot be read, or a checksum differs.
        """
        store = Store.at(self.url)
        for name, artifact_id in _of(stored, self.ids).items():
            with _scratch(stored) as scratch, suppress(ArtifactNotFound):
                file = scratch / name
                with store.explained():
                    download_artifact(
                        artifact_store=store, file_path=str(file), artifact_id=artifact_id
                    )
                _unpack(file, stored, f"{store.url}/{artifact_id}")
                return


def declared(study: Study) -> dict[str, str]:
    """Return the ids of all declared weights of a study by file name, also of removed ones."""
    # get_all_artifact_meta fails for artifacts that were deleted in the dashboard
    attributes = study._storage.get_study_system_attrs(study._study_id)  # noqa: SLF001
    records = [json.loads(text) for name, text in attributes.items() if name.startswith(DECLARED)]
    found = {one["filename"]: one["artifact_id"] for one in records if one}
    return {name: artifact_id for name, artifact_id in found.items() if NAME.fullmatch(name)}


def _of(stored: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """Return the artifacts of one trial."""
    return {name: one for name, one in ids.items() if name.rpartition("-")[0] == stored.name}


@contextmanager
def _packed(stored: Path) -> Iterator[Path]:
    """Pack a folder of intact weights into an archive that is named by their checksum."""
    with _scratch(stored) as scratch:
        path = scratch / f"{stored.name}-{checksum(stored)[:16]}.zip"
        # uncompressed: weights hardly compress
        with ZipFile(path, "w", strict_timestamps=False) as archive:
            for name in stored_files(stored):
                archive.write(stored / name, name)
        yield path


def _unpack(file: Path, stored: Path, source: str) -> None:
    """Replace the weights in a folder by those in an archive.

    Raises:
        BadInput: The archive is damaged, or holds other weights than its name says.
    """
    with replacing(stored) as folder:
        with suppress(BadZipFile), ZipFile(file) as archive:
            archive.extractall(folder)
        if damage(folder) or checksum(folder)[:16] not in file.name:
            raise BadInput(
                f"{source}: checksum mismatch, not what was sent as {file.name}; remove it, then "
                "run the study again where its run folder is to upload it again"
            )


@contextmanager
def _scratch(stored: Path) -> Iterator[Path]:
    """Make a folder for the packed weights of a trial, removed in the end."""
    scratch = atomic(packed(stored)).scratch
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        remove(scratch)
