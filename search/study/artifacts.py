"""The weights of a study's front in a store, beside the run folder and beyond it."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from optuna.artifacts import download_artifact, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import Study

from protege.search.progress import complain
from protege.search.records.results import damage, packed, replacing, stored_files
from protege.search.storage.storage import PATIENCE_S, insist
from protege.search.study.store import Store, is_away, reason, refusals
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, remove

NAME = re.compile(r"(?P<folder>trial-\d+)-[0-9a-f]{16}\.zip")
"""Of an artifact: the folder that it holds, and a hash of its content."""

DECLARED = "artifacts:"
"""What Optuna's name for a study's attribute that declares an artifact begins with."""


@dataclass
class Artifacts:
    """The weights of a front that are sent to a store as well.

    A student is one artifact of the study: only to a study, not to a trial that was told, can
    artifacts be added at any time. Optuna declares one in the study before it sends its content.
    So everything here can be done again: what was declared is sent under the id that it has, and
    an object that nobody knows of cannot be. What is declared is never taken back, which Optuna
    has no way to; `Store.ids` is what is there.

    A store that is away costs no trial: after a while the study goes on, its weights in the run
    folder, and each `sync` tries again to send what the store lacks.

    Attributes:
        study: Where artifacts are declared.
        store: Where they are.
        patience_s: How long a store that is away is waited for; until it is back, but once.
    """

    study: Study
    store: Store
    patience_s: float = PATIENCE_S
    _settled: set[str] | None = field(default=None, init=False, repr=False)
    _waited: bool = field(default=False, init=False, repr=False)

    @classmethod
    def of(cls, study: Study, url: str) -> "Artifacts | None":
        """Those of a study in the store of that URL; none without a URL."""
        return cls(study, Store.at(url)) if url else None

    def put(self, stored: Path) -> None:
        """Send the folder with the weights of a trial; do it before the trial is told."""
        if damage(stored):
            return  # nothing is there, or it is not what was stored
        with _packed(stored) as file:
            if not self._done(lambda: self._send(file)):
                self._settled = None

    def sync(self, front: Iterable[Path]) -> None:
        """Send what the store lacks of the front, and remove all other weights of the study.

        Args:
            front: The folders with the weights of those that are on it.
        """
        kept = {path.name: path for path in front}
        if self._settled != set(kept) and self._done(lambda: self._settle(kept.values())):
            self._settled = set(kept)

    def _done(self, operation: Callable[[], object]) -> bool:
        """Do what can be done twice, however long the store is away; whether it was done."""
        what = f"artifacts {self.store.url}"
        try:
            # the storage has to come back: there is no study without it
            patience_s = 0.0 if self._waited else self.patience_s
            insist(lambda: insist(operation), patience_s, is_away, what)
        except refusals() as error:
            if not self._waited:
                complain(
                    f"protege: {what}: {reason(error)}; the study goes on, weights are kept in the "
                    "run folder and sent after a later trial, or by a later run"
                )
            self._waited = True
            return False
        self._waited = False
        return True

    def _send(self, file: Path) -> str:
        """Send a file, declared if it is not yet; the id of its artifact."""
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
        """The artifact of a trial on the front, sent if it was not; none if it is lost."""
        known = {*_of(stored, ids).values()}
        # two, if a trial was killed, trained again, and came out another to the last digit
        if len(known) == 1 and known <= there:
            return known
        if damage(stored):
            return known & there
        with _packed(stored) as file:
            own = ids.get(file.name)
            return {own if own in there else self._send(file)}


@dataclass(frozen=True)
class Sent:
    """The weights that a study has sent to a store, for whoever only reads the study.

    Attributes:
        url: The store.
        ids: Ids of artifacts by their names.
    """

    url: str
    ids: Mapping[str, str]

    @classmethod
    def by(cls, study: Study, url: str) -> "Sent | None":
        """What the study has sent to the store of that URL; none without a URL."""
        return cls(url, declared(study)) if url else None

    def fetch(self, stored: Path) -> None:
        """Bring the weights of a trial into their folder, whole or not at all, if they are there.

        Raises:
            BadInput: The store cannot be read, or has them otherwise than they were sent.
        """
        store = Store.at(self.url)
        with store.explained():
            _bring(store, self.ids, stored)


def declared(study: Study) -> dict[str, str]:
    """The weights among a study's artifacts, whether they are still there or not: ids by name."""
    # get_all_artifact_meta fails in a study with an artifact that was deleted in the Dashboard
    attributes = study._storage.get_study_system_attrs(study._study_id)  # noqa: SLF001
    records = [json.loads(text) for name, text in attributes.items() if name.startswith(DECLARED)]
    found = {one["filename"]: one["artifact_id"] for one in records if one}
    return {name: artifact_id for name, artifact_id in found.items() if NAME.fullmatch(name)}


def _of(stored: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """Those of one trial."""
    return {name: one for name, one in ids.items() if name.rpartition("-")[0] == stored.name}


@contextmanager
def _packed(stored: Path) -> Iterator[Path]:
    """A folder as one file, the same for the same content, by which it is named."""
    with _scratch(stored) as scratch:
        path = scratch / "packed"
        with ZipFile(path, "w") as archive:  # not compressed: weights hardly can be
            for name in sorted(stored_files(stored)):
                entry = ZipInfo(name)  # as of 1980, always
                with (
                    (stored / name).open("rb") as source,
                    archive.open(entry, "w", force_zip64=True) as copy,
                ):
                    shutil.copyfileobj(source, copy, 1 << 20)
        yield path.rename(path.with_name(f"{stored.name}-{_digest(path)}.zip"))


def _bring(store: Store, ids: Mapping[str, str], stored: Path) -> None:
    """Fetch the weights of a trial into their folder, if they are in the store.

    Raises:
        BadInput: They are not as they were sent.
    """
    stored.parent.mkdir(parents=True, exist_ok=True)
    for name, artifact_id in _of(stored, ids).items():
        with _scratch(stored) as scratch:
            file = scratch / name
            try:
                download_artifact(
                    artifact_store=store, file_path=str(file), artifact_id=artifact_id
                )
            except ArtifactNotFound:
                continue
            _unpack(file, stored, f"{store.url}/{artifact_id}")
            return


def _unpack(file: Path, stored: Path, source: str) -> None:
    if f"-{_digest(file)}.zip" not in file.name:
        raise BadInput(
            f"{source}: not what was sent there as {file.name}; remove it, then run the study "
            "again where its run folder is, and it is sent anew"
        )
    with replacing(stored) as scratch, ZipFile(file) as archive:
        archive.extractall(scratch)


@contextmanager
def _scratch(stored: Path) -> Iterator[Path]:
    """Make a folder for the packed weights of a trial, removed in the end."""
    scratch = atomic(packed(stored)).scratch
    remove(scratch)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        remove(scratch)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]
