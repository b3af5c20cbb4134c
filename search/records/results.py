"""Files of trials in a run folder: weights, training checkpoints, records.

Files are named by trial number. A folder with weights lists the checksums of its files: damaged or
foreign weights are never used, and only files on that list are removed.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from protege.search.records.trial import Trial
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, raise_if_full, remove, remove_abandoned, write_text
from protege.spaces.files.hashing import text_checksum
from protege.spaces.files.manifest import MANIFEST

if TYPE_CHECKING:
    from protege.spaces import Student

ARTIFACTS, CHECKPOINTS, RECORDS = "artifacts", "checkpoints", "records"

SUMS = "checksums.json"
"""The list of checksums of a trial's weights; it is not exported."""

_ALTERED = "was cut short or altered after it was written"


def weights_folder(folder: Path, number: int) -> Path:
    """Return the folder of a trial's weights."""
    return folder / ARTIFACTS / f"trial-{number:05d}"


def checkpoint_file(folder: Path, number: int) -> Path:
    """Return the file of a trial's training checkpoint."""
    return folder / CHECKPOINTS / f"trial-{number:05d}.safetensors"


def store_weights(folder: Path, number: int, student: "Student") -> str:
    """Store a student atomically; return its checksum."""
    with replacing_weights(weights_folder(folder, number)) as scratch:
        student.save(scratch)
        return write_checksums(scratch)


@contextmanager
def replacing_weights(stored: Path) -> Iterator[Path]:
    """Yield an empty folder whose content replaces the weights in `stored` on success.

    The caller must call `write_checksums` on it. Files of others in `stored` stay.

    Raises:
        BadInput: `stored` is a file or a link.
        DiskFull: The disk is full.
    """
    if stored.is_symlink() or (stored.exists() and not stored.is_dir()):
        raise BadInput(f"{stored}: in the place of a student's weights; move it away")
    scratch = atomic(stored).scratch
    stored.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(stored.parent, {stored.name})
    remove(scratch)
    try:
        yield scratch
        remove_weights(stored)
        _move(scratch, stored)
    except BaseException as error:
        remove(scratch)
        raise_if_full(stored, error)
        raise
    remove(scratch)


def copy_weights(stored: Path, target: Path) -> None:
    """Copy stored weights to another run, if they exist."""
    if not (stored / MANIFEST).is_file():
        return
    with replacing_weights(target) as scratch:
        for name in stored_files(stored):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored / name, scratch / name)


def stored_files(stored: Path) -> list[str]:
    """Return the files that protege stored in a folder, `SUMS` last.

    Paths are relative, without ``..`` or links. Empty if the list is missing or damaged.
    """
    names = _listed(stored, "files")
    return [*(name for name in names if name != SUMS), SUMS] if names is not None else []


def _listed(stored: Path, kind: str) -> list[str] | None:
    """Return the listed ``files`` or ``folders`` that lie inside, or None without a list."""
    try:
        listed = json.loads((stored / SUMS).read_bytes()).get(kind, [])
        names = [str(PurePosixPath(name)) for name in listed]
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return [name for name in names if _is_inside(stored, name)]


def remove_weights(stored: Path) -> None:
    """Remove the files that were stored in a folder, and the folder if nothing else is in it."""
    if stored.is_symlink():
        return
    names, folders = stored_files(stored), _listed(stored, "folders") or []
    for name in names:
        _unlink(stored / name)
    above = {stored / parent for name in names for parent in PurePosixPath(name).parents}
    above |= {stored / name for name in folders if not (stored / name).is_symlink()}
    for folder in sorted(above, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # not empty
            folder.rmdir()


def write_checksums(folder: Path) -> str:
    """Write the checksums of all files in a folder; return the checksum of the list."""
    sums = {name: _digest(folder / name) for name in files_in(folder)}
    whole = text_checksum(sums)
    # sentence-transformers saves modules without files as empty folders
    folders = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()]
    content = {"files": sums, "folders": sorted(folders), "checksum": whole}
    write_text(folder / SUMS, json.dumps(content, indent=1))
    return whole


def damage(folder: Path, expected: str = "") -> str:
    """Describe the first damaged file in a folder of weights.

    Args:
        folder: The folder.
        expected: The checksum from `write_checksums`; not compared if empty.

    Returns:
        A phrase, or an empty string if all files are intact.
    """
    if not (folder / MANIFEST).is_file():
        return f"{folder / MANIFEST} is missing"
    sums = _sums(folder)
    if sums is None:
        return f"{folder / SUMS} {_ALTERED}, or is missing"
    if expected and text_checksum(sums) != expected:
        return f"{folder} has the weights of another trial or study"
    altered = (folder / name for name, digest in sums.items() if _digest(folder / name) != digest)
    return next((f"{path} {_ALTERED}, or is missing" for path in altered), "")


def checksum(folder: Path) -> str:
    """Return what `write_checksums` returned for a folder of weights; empty without a list."""
    sums = _sums(folder)
    return "" if sums is None else text_checksum(sums)


def files_in(folder: Path) -> list[str]:
    """Return the stored files of a folder of weights, sorted; all files if there is no list."""
    sums = _sums(folder)
    if sums is not None:
        return sorted(sums)
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SUMS)


def _sums(folder: Path) -> Mapping[str, str] | None:
    """Return the checksum of each file, or None if the list is missing or damaged."""
    try:
        stored: Any = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        sums: Mapping[str, str] = stored["files"]
        return sums if stored["checksum"] == text_checksum(sums) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    """Return the checksum of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def store_trial(folder: Path, trial: Trial) -> None:
    """Store a trial atomically, before its result is reported."""
    # normalise tuples and integer keys as JSON reads them
    found = json.loads(json.dumps(trial.record()))
    content = {"record": found, "checksum": text_checksum(found)}
    write_text(_record(folder, trial.number), json.dumps(content))


def stored_trial(folder: Path, number: int, key: str) -> Trial | None:
    """Return the stored trial of an architecture, or None if there is none or it is damaged."""
    try:
        stored = json.loads(_record(folder, number).read_text(encoding="utf-8"))
        found = stored["record"]
        if stored["checksum"] != text_checksum(found) or found["key"] != key:
            return None
        trial = Trial.of_record(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if trial.number != number:
        return None
    if trial.weights and damage(weights_folder(folder, number), trial.weights):
        return None
    return trial


def remove_finished(folder: Path, front: Collection[int], ended: Iterable[int]) -> None:
    """Delete checkpoints and records of finished trials, and weights of those not on the front.

    Args:
        folder: The run folder.
        front: Trials whose weights are kept.
        ended: Trials that have just finished or left the front.
    """
    for number in ended:
        _unlink(checkpoint_file(folder, number))
        _unlink(_record(folder, number))
        if number not in front:
            remove_weights(weights_folder(folder, number))


def remove_leftovers(folder: Path, front: Collection[int], numbers: Collection[int]) -> None:
    """Delete weights not on the front, and temporary files of killed processes.

    Args:
        folder: The run folder; no process may be writing to it.
        front: Trials whose weights are kept.
        numbers: All trials of the study.
    """
    for number in numbers:
        if number not in front:
            remove_weights(weights_folder(folder, number))
    weights = [weights_folder(folder, number) for number in numbers]
    written = [
        *weights,
        *(checkpoint_file(folder, number) for number in numbers),
        *(_record(folder, number) for number in numbers),
    ]
    for name in (ARTIFACTS, CHECKPOINTS, RECORDS):
        remove_abandoned(folder / name, {path.name for path in written if path.parent.name == name})


def _record(folder: Path, number: int) -> Path:
    return folder / RECORDS / f"trial-{number:05d}.json"


def _move(scratch: Path, stored: Path) -> None:
    """Move a folder to its place, or its files if the place has files of others."""
    if not stored.exists():
        scratch.replace(stored)
        return
    for name in stored_files(scratch):
        (stored / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).replace(stored / name)


def _is_inside(folder: Path, name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    return not any((folder / parent).is_symlink() for parent in list(path.parents)[:-1])


def _unlink(path: Path) -> None:
    """Remove a file, but no folder or link, which protege did not make."""
    if path.is_file() and not path.is_symlink():
        path.unlink(missing_ok=True)


def kept_layers(folder: Path, trial: Trial) -> str:
    """Return the teacher's layers that a stored student keeps, or an empty string if unknown."""
    try:
        stored = json.loads((weights_folder(folder, trial.number) / MANIFEST).read_bytes())
        stacks: dict[str, list[int]] = stored["kept"]["layers"]
        return "; ".join(f"{name} {' '.join(map(str, own))}" for name, own in stacks.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
