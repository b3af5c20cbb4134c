"""What jobs leave in a run folder: weights, trainings under way, and what was found."""

import json
from collections.abc import Iterable
from pathlib import Path

from protege.objectives import Candidate
from protege.search.trial import Trial
from protege.search.weights import damage, seal
from protege.spaces.cache import atomic, is_abandoned, remove, text_checksum, write_text

ARTIFACTS, CHECKPOINTS, RECORDS = "artifacts", "checkpoints", "records"


def artifact(folder: Path, number: int) -> Path:
    """Where the weights of a trial are kept in a run folder."""
    return folder / ARTIFACTS / f"trial-{number:05d}"


def checkpoint(folder: Path, number: int) -> Path:
    """Where the training of a trial is stored while it is under way."""
    return folder / CHECKPOINTS / f"trial-{number:05d}.safetensors"


def keep(folder: Path, number: int, candidate: Candidate) -> str:
    """Store the candidate's student as it is now, whole or not at all; return its checksum."""
    path = artifact(folder, number)
    with atomic(path) as scratch:
        remove(scratch)
        candidate.student.save(scratch)
        checksum = seal(scratch)
        remove(path)
    return checksum


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


def sweep(folder: Path, front: Iterable[int], ended: Iterable[int]) -> None:
    """Remove what nobody needs of trials that were told: their weights too, but for the front's.

    Args:
        folder: The run folder.
        front: The trials whose weights are kept.
        ended: The trials to sweep after: those just told, and those that have left the front.
    """
    kept = set(front)
    for number in ended:
        remove(checkpoint(folder, number))
        remove(_record(folder, number))
        if number not in kept:
            remove(artifact(folder, number))


def clear(folder: Path, front: Iterable[int]) -> None:
    """Remove all weights but the front's, and all else that a process died over while it wrote.

    Args:
        folder: The run folder, where nobody is at work.
        front: The trials whose weights are kept.
    """
    kept = {artifact(folder, number) for number in front}
    for path in (folder / ARTIFACTS).glob("*"):
        if path not in kept:
            remove(path)
    for path in [*folder.rglob(".*")]:
        if is_abandoned(path):
            remove(path)


def _record(folder: Path, number: int) -> Path:
    return folder / RECORDS / f"trial-{number:05d}.json"
