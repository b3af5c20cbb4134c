"""What was measured again from exported students, and stored with the run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from protege.objectives.measurement import Measurement
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import Trial
from protege.search.storage.explaining import undamaged
from protege.spaces.files.atomic import write_text

FOLDER = "confirmed"
"""Folder in a run folder with one file per confirmed trial."""

UNSEEN = "unseen_"
"""Prefix of an objective's value on data that the search never used."""


@dataclass(frozen=True)
class Confirmation:
    """The figures of an exported student, loaded in a process of its own.

    Attributes:
        trial: The number of its trial.
        weights: Checksum of the weights that were measured.
        values: Values by name: of each objective, with the prefix ``unseen_`` on data that the
            search never used, and ``speedup``.
    """

    trial: int
    weights: str
    values: Mapping[str, float]

    def value(self, objective: str) -> float | None:
        """Return the value of an objective, on unseen data if it was measured there."""
        return self.values.get(f"{UNSEEN}{objective}", self.values.get(objective))

    def store(self, folder: Path) -> None:
        """Write the figures to the run folder."""
        path = folder / FOLDER / f"trial-{self.trial:05d}.json"
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(asdict(self), indent=1))


def confirmations(folder: Path, trials: Sequence[Trial]) -> dict[int, Confirmation]:
    """Return the stored figures by trial number; those of other weights are left out."""
    known, found = {trial.number: trial.weights for trial in trials}, {}
    for path in sorted((folder / FOLDER).glob("trial-*.json")):
        with undamaged(str(path), "remove the file, or confirm the run again"):
            one = Confirmation(**json.loads(path.read_bytes()))
        if one.trial in known and known[one.trial] == one.weights:
            found[one.trial] = one
    return found


def overtaken(
    objectives: ObjectiveRecords, trials: Sequence[Trial], found: Mapping[int, Confirmation]
) -> dict[int, list[int]]:
    """Return the confirmed students that others dominate by the confirmed figures.

    Args:
        objectives: The objectives.
        trials: The students.
        found: The confirmed figures.

    Returns:
        By trial number, the numbers of the trials that are at least as good in every objective
        and better in one.
    """
    known = [
        replace(trial, measurements=_measured(objectives, found[trial.number]))
        for trial in trials
        if trial.number in found
    ]
    signs = [one.sign for one in objectives.records]
    costs = {one.number: np.multiply(signs, objectives.values(one)) for one in known}
    beaten = {
        number: [
            other for other, cost in costs.items() if (cost <= own).all() and (cost < own).any()
        ]
        for number, own in costs.items()
    }
    return {number: above for number, above in beaten.items() if above}


def _measured(objectives: ObjectiveRecords, found: Confirmation) -> dict[str, Measurement]:
    values = {name: found.value(name) for name in objectives.names}
    return {name: Measurement(value) for name, value in values.items() if value is not None}
