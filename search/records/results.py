"""What jobs leave in a run folder: weights, trainings under way, and what was found.

Everything is named by the number of its trial, and removed by that name alone. A folder with
weights lists the checksums of its files: damaged or foreign weights are never used, and only files
on that list are removed.
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
from protege.spaces.students.manifest import MANIFEST

if TYPE_CHECKING:
    from protege.objectives import Candidate

ARTIFACTS, CHECKPOINTS, RECORDS = "artifacts", "checkpoints", "records"

SUMS = "checksums.json"
"""Lists the files of a trial's weights; it is not exported."""

_ALTERED = "was cut short or altered after it was written"


def artifact(folder: Path, number: int) -> Path:
    """Where the weights of a trial are kept in a run folder."""
    return folder / ARTIFACTS / f"trial-{number:05d}"


def checkpoint(folder: Path, number: int) -> Path:
    """Where the training of a trial is stored while it is under way."""
    return folder / CHECKPOINTS / f"trial-{number:05d}.safetensors"


def packed(stored: Path) -> Path:
    """Return where the weights in a folder are packed into one file, to be sent."""
    return stored.with_name(f"{stored.name}.zip")


def keep(folder: Path, number: int, candidate: "Candidate") -> str:
    """Store the candidate's student as it is now, whole or not at all; return its checksum."""
    with replacing(artifact(folder, number)) as scratch:
        candidate.student.save(scratch)
        return seal(scratch)


@contextmanager
def replacing(stored: Path) -> Iterator[Path]:
    """Yield an empty folder whose content takes the place of the weights stored in another.

    `seal` lists its files. What else is in the folder of the weights stays where it is.

    Raises:
        BadInput: There is a file or a link in the place of the folder.
        DiskFull: There is no room for the weights.
    """
    if stored.is_symlink() or (stored.exists() and not stored.is_dir()):
        raise BadInput(f"{stored}: in the place of a student's weights; move it away")
    scratch = atomic(stored).scratch
    stored.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(stored.parent, {stored.name})
    remove(scratch)
    try:
        yield scratch
        discard(stored)
        _move(scratch, stored)
    except BaseException as error:
        remove(scratch)
        raise_if_full(stored, error)
        raise
    remove(scratch)


def copied(stored: Path, target: Path) -> None:
    """Store in one run what is stored in another, if it is there."""
    if not (stored / MANIFEST).is_file():
        return
    with replacing(target) as scratch:
        for name in stored_files(stored):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored / name, scratch / name)


def stored_files(stored: Path) -> list[str]:
    """Return the files that protege stored in a folder, the list of their checksums last.

    They are relative paths without a way up or through a link; empty if the list is not there or
    not whole.
    """
    names = _listed(stored, "files")
    return [*(name for name in names if name != SUMS), SUMS] if names is not None else []


def _listed(stored: Path, kind: str) -> list[str] | None:
    """Return the relative paths of ``files`` or ``folders`` that lie inside, or None."""
    try:
        listed = json.loads((stored / SUMS).read_bytes()).get(kind, [])
        names = [str(PurePosixPath(name)) for name in listed]
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    return [name for name in names if _is_inside(stored, name)]


def discard(stored: Path) -> None:
    """Remove the files that were stored in a folder, and the folder if nothing else is in it."""
    if stored.is_symlink():
        return
    names, folders = stored_files(stored), _listed(stored, "folders") or []
    for name in names:
        _unlink(stored / name)
    above = {stored / parent for name in names for parent in PurePosixPath(name).parents}
    above |= {stored / name for name in folders if not (stored / name).is_symlink()}
    for folder in sorted(above, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # something else is in it
            folder.rmdir()


def seal(folder: Path) -> str:
    """Write the checksums of all files in a folder; return the checksum of the whole."""
    sums = {name: _digest(folder / name) for name in files_in(folder)}
    whole = text_checksum(sums)
    # a module of sentence-transformers without files has an empty folder
    folders = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()]
    content = {"files": sums, "folders": sorted(folders), "checksum": whole}
    write_text(folder / SUMS, json.dumps(content, indent=1))
    return whole


def damage(folder: Path, expected: str = "") -> str:
    """Name the first damaged file in a folder of weights and what is wrong with it.

    Args:
        folder: The folder.
        expected: What `seal` returned when the weights were stored; not compared if empty.

    Returns:
        One phrase; empty if all is well.
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


def files_in(folder: Path) -> list[str]:
    """Return the files of a folder of weights by name: those that were stored, and no others."""
    sums = _sums(folder)
    if sums is not None:
        return sorted(sums)
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SUMS)


def _sums(folder: Path) -> Mapping[str, str] | None:
    """Return the checksum of each file, or None if there are none that can be trusted."""
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


def record(folder: Path, trial: Trial) -> None:
    """Store what was found of a trial, whole or not at all, before anybody is told of it."""
    # as it is read again: JSON has no tuples, and no numbers for keys
    found = json.loads(json.dumps(trial.record()))
    content = {"record": found, "checksum": text_checksum(found)}
    write_text(_record(folder, trial.number), json.dumps(content))


def recorded(folder: Path, number: int, key: str) -> Trial | None:
    """Return what was found of a trial of that architecture.

    It is None if nothing is there, or if the record or the weights are damaged: the job is done
    again.
    """
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
    if trial.weights and damage(artifact(folder, number), trial.weights):
        return None
    return trial


def sweep(folder: Path, front: Collection[int], ended: Iterable[int]) -> None:
    """Remove what trials that were told no longer need: their weights too, but for the front's.

    Args:
        folder: The run folder.
        front: The trials whose weights are kept.
        ended: The trials to sweep after: those just told, and those that have left the front.
    """
    for number in ended:
        _unlink(checkpoint(folder, number))
        _unlink(_record(folder, number))
        if number not in front:
            discard(artifact(folder, number))


def clear(folder: Path, front: Collection[int], numbers: Collection[int]) -> None:
    """Remove all weights but the front's, and what processes died over while they wrote.

    Args:
        folder: The run folder, where no process is at work.
        front: The trials whose weights are kept.
        numbers: All trials of the study.
    """
    for number in numbers:
        if number not in front:
            discard(artifact(folder, number))
    weights = [artifact(folder, number) for number in numbers]
    written = [
        *(*weights, *map(packed, weights)),
        *(checkpoint(folder, number) for number in numbers),
        *(_record(folder, number) for number in numbers),
    ]
    for name in (ARTIFACTS, CHECKPOINTS, RECORDS):
        remove_abandoned(folder / name, {path.name for path in written if path.parent.name == name})


def _record(folder: Path, number: int) -> Path:
    return folder / RECORDS / f"trial-{number:05d}.json"


def _move(scratch: Path, stored: Path) -> None:
    """Move a folder to its place; if others' files are there, move what is in it among them."""
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
    """Remove a file; a folder or a link of its name was made by somebody else."""
    if path.is_file() and not path.is_symlink():
        path.unlink(missing_ok=True)
