"""`StudyResult`: the trials of a study with its front, tables and comparisons."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from protege.objectives.measurement import JUDGED_IN
from protege.search.analysis.confirmation import Confirmation, confirmations, overtaken
from protege.search.analysis.dominance import line, notes, outdone, with_baselines
from protege.search.analysis.estimates import Estimates
from protege.search.analysis.fidelity import Fidelity
from protege.search.analysis.tied import tied_with
from protege.search.analysis.ties import Noise
from protege.search.records.baseline import BaselineRecord
from protege.search.records.heads import HeadScores
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.plain import printable
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    AS_CUT,
    CHOSEN,
    DOMINATED_BY,
    WITHIN_NOISE,
    figure,
    listed,
    millions,
    rarely_cut,
)
from protege.search.records.wording import SIZES as WORDS
from protege.search.storage.explaining import undamaged
from protege.spaces import BadInput
from protege.spaces.space.knobs import SIZES

TEACHER, NAIVE = "teacher", "naive half"
"""Names of the two baselines."""

MEASURED = "measured"
"""Folder in a run folder with latencies of the students on other targets."""

_KEPT = re.compile(r"[0-9a-f]{16}\.json")
"""The names of files that `Front.keep` writes."""


class Upload(Protocol):
    """The weights of a study in a store; see `protege.search.study.artifacts.UploadedWeights`."""

    @property
    def url(self) -> str:
        """The store."""

    def fetch(self, stored: Path, expected: str) -> None:
        """Download the weights of a trial."""


IN_FLOAT32 = "qualities were judged in float32"


@dataclass(frozen=True)
class StudyResult(ABC):
    """The trials of a study, its Pareto front and its tables; base of `protege.search.Front`.

    Attributes:
        name: The study.
        folder: The run folder with its artifacts.
        objectives: The objectives of the study.
        trials: All finished trials.
        about: The record of the study: teacher, seed, seconds by phase.
        identity: The identity of the study; see `protege.search.session.identity`.
        sent: The uploaded weights, if the study has a store.
        run: The id that study and run folder share.
        database: The database file, or None for a server.
        declared: The declaration of the study; None if the study was read from its storage.
    """

    name: str
    folder: Path
    objectives: ObjectiveRecords
    trials: tuple[Trial, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sent: Upload | None = None
    run: str = ""
    database: Path | None = None
    declared: Any = field(default=None, repr=False, compare=False)

    @cached_property
    def members(self) -> list[Trial]:
        """The trials on the front, ordered by the first objective."""
        return self.objectives.front(self.trials)

    @cached_property
    def teacher(self) -> Trial | None:
        """The teacher's own trial."""
        key = self.about.get("teacher", {}).get("key")
        return next((t for t in self.trials if t.key == key and t.state is State.COMPLETE), None)

    @property
    def heads(self) -> list[HeadScores]:
        """The importance of the teacher's heads by each criterion that the study used."""
        return [HeadScores(**record) for record in self.about.get("heads", ())]

    @cached_property
    def measured(self) -> dict[str, dict[str, float]]:
        """Latency in ms on other targets: by target, then by the student's label."""
        found = {}
        for path in sorted((self.folder / MEASURED).glob("*.json")):
            if not _KEPT.fullmatch(path.name):
                continue  # not written by protege
            with undamaged(str(path), "remove the file, or measure there again"):
                record = json.loads(path.read_bytes())
                models: Mapping[str, Any] = record["models"]
                label = str(record["label"])
                found[label] = {name: float(one["ms"]) for name, one in models.items()}
        return found

    @cached_property
    def fidelity(self) -> Fidelity | None:
        """Agreement of the rungs with longer distillations, if measured."""
        return Fidelity.read(self.folder)

    @cached_property
    def confirmed(self) -> dict[int, Confirmation]:
        """What was measured again from exported students, by trial number; see `Front.confirm`."""
        return confirmations(self.folder, self.trials)

    @cached_property
    def overtaken(self) -> dict[int, list[int]]:
        """By trial number, the students that dominate it by their confirmed figures."""
        return overtaken(self.objectives, self.students, self.confirmed)

    @cached_property
    def students(self) -> list[Trial]:
        """The students on the front, without teacher and naive half."""
        return [trial for trial in self.members if not self.role(trial)]

    @cached_property
    def finished(self) -> list[Trial]:
        """The students that are complete, without teacher and naive half.

        Trials that were stopped, screened or failed have no final values, so they say nothing about
        finished students.
        """
        return [t for t in self.trials if t.state is State.COMPLETE and not self.role(t)]

    @cached_property
    def cut(self) -> list[Trial]:
        """The finished students that were cut from the teacher, not those of other families."""
        return [trial for trial in self.finished if not trial.other_family]

    @cached_property
    def estimates(self) -> Estimates:
        """The models of the objectives over sizes, of the students cut from the teacher and it."""
        known = [*self.cut, *([self.teacher] if self.teacher else [])]
        of_family = tuple(trial for trial in self.trials if not trial.other_family)
        return Estimates(self.about, of_family, known, self.objectives)

    @cached_property
    def baselines(self) -> list[BaselineRecord]:
        """The models of other origin that the study's students are compared with."""
        return [*map(BaselineRecord.of_record, self.about.get("baselines", ()))]

    @cached_property
    def outdone(self) -> dict[str, list[int]]:
        """By a baseline's name, the numbers of the students that it dominates within noise."""
        return outdone(self.objectives, self.students, self.baselines)

    @property
    def baseline_notes(self) -> list[str]:
        """A sentence on each baseline: which students it dominates, and what it lacks."""
        return notes(self.objectives, len(self.students), self.baselines, self.outdone)

    @cached_property
    def choices(self) -> list[Trial]:
        """The students that no other student dominates within noise; see `dominated`."""
        return self.undominated(self.students)

    @cached_property
    def ties(self) -> dict[int, list[int]]:
        """For each trial on the front, the others that equal it within noise in every objective.

        Keys and values are trial numbers. See `protege.search.analysis.ties` for the test.
        """
        numbers = [trial.number for trial in self.members]
        return {
            number: [other for other, tied in zip(numbers, row, strict=True) if tied]
            for number, row in zip(numbers, self._noise.tied, strict=True)
        }

    @cached_property
    def tied_with_front(self) -> dict[int, list[int]]:
        """For trials off the front that equal students on it within noise, those students.

        Keys and values are trial numbers. By their values these trials are dominated.
        """
        members = {trial.number for trial in self.members}
        feasible = [trial for trial in self.trials if self.objectives.feasible(trial)]
        others = [t for t in feasible if t.number not in members and not self.role(t)]
        return tied_with(self.objectives, self.students, others)

    @cached_property
    def dominated(self) -> dict[int, list[int]]:
        """The students on the front that others dominate within noise, and which others do.

        Keys and values are trial numbers. One student dominates another within noise if it is
        better in some objective by more than noise and worse in none by more than noise.
        """
        return self._dominated(self.students)

    @cached_property
    def dominators(self) -> dict[int, list[int]]:
        """For each trial on the front, the others that dominate it within noise, pair by pair."""
        numbers = [trial.number for trial in self.members]
        return {
            number: [other for other, is_better in zip(numbers, column, strict=True) if is_better]
            for number, column in zip(numbers, self._noise.dominates.T, strict=True)
        }

    def undominated(self, among: Sequence[Trial]) -> list[Trial]:
        """Return those trials on the front that no other one given dominates within noise."""
        beaten = self._dominated(among)
        return [trial for trial in among if trial.number not in beaten]

    def _dominated(self, among: Sequence[Trial]) -> dict[int, list[int]]:
        at = {trial.number: place for place, trial in enumerate(self.members)}
        found = self._noise.dominated([at[trial.number] for trial in among])
        numbers = list(at)
        return {numbers[one]: [numbers[other] for other in above] for one, above in found.items()}

    @cached_property
    def _noise(self) -> Noise:
        """Ties and dominance between the members within noise."""
        own = self.objectives.records
        found = [[trial.measurements[one.name] for trial in self.members] for one in own]
        return Noise.of(found, [one.sign for one in own])

    def share_of_teacher(self, trial: Trial) -> str:
        """Return a student's share of the teacher's parameters; empty if either is unknown."""
        whole = self.teacher.parameters if self.teacher else None
        return f"{trial.parameters / whole:.0%}" if trial.parameters and whole else ""

    def role(self, trial: Trial) -> str:
        """Return ``teacher``, ``naive half``, or an empty string for a student."""
        if trial.key == self.about.get("teacher", {}).get("key"):
            return TEACHER
        return NAIVE if trial.key == self.about.get("naive") else ""

    @property
    def table(self) -> pd.DataFrame:
        """The front, one row per student, and then one per baseline."""
        return with_baselines(self._frame(self.members), self.baselines, self.outdone)

    @property
    def candidates(self) -> pd.DataFrame:
        """All trials in order, in any state."""
        return self._frame(self.trials)

    @property
    def hypervolume(self) -> float:
        """`ObjectiveRecords.hypervolume` of the front; NaN without a teacher trial."""
        if self.teacher is None:
            return float("nan")
        return self.objectives.hypervolume(self.trials, self.teacher)

    def trial(self, number: int) -> Trial:
        """Return the trial with a number.

        Raises:
            BadInput: No trial has it.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise BadInput(f"no trial {number} in study {self.name!r}; it has {len(self.trials)}")

    def __str__(self) -> str:
        if not self.members:
            return "No student is within the study's limits."
        lines = [self._line(trial) for trial in self.members]
        lines += [line(self.objectives, one, list(lines[0])) for one in self.baselines]
        return "\n".join([pd.DataFrame(lines).to_string(index=False), *self.precision_notes])

    @property
    def precision_notes(self) -> list[str]:
        """In which precisions students were measured and judged, if not all in float32."""
        return [
            f"{printable(name)} was measured in {printable(precision)}; {printable(self.judged)}"
            for name, precision in self.precisions.items()
        ]

    @property
    def judged(self) -> str:
        """Which qualities were judged in another precision than float32, in words."""
        found = {
            name: str(one.details[JUDGED_IN])
            for trial in self.members
            for name, one in trial.measurements.items()
            if JUDGED_IN in one.details
        }
        said = [f"{name} was judged in {how}" for name, how in found.items()]
        return ", ".join([*said, "other qualities in float32"]) if said else IN_FLOAT32

    @property
    def precisions(self) -> dict[str, str]:
        """The precision of each objective whose target names another one than float32."""
        declared = self.identity.get("objectives", {})
        found = {name: one.get("target", {}).get("precision") for name, one in declared.items()}
        return {name: one for name, one in found.items() if one not in {None, "float32"}}

    def _line(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's row for a terminal, with ``value ± error`` per objective."""
        figures = {
            printable(name): figure(trial.measurements[name]) for name in self.objectives.names
        }
        figures |= self.beside_teacher(trial)
        cut = [one for one in self.members if one is not self.teacher]
        policies = {
            name: printable(trial.architecture.get(name, "none"))
            for name in CHOSEN
            if len({one.architecture.get(name) for one in cut}) > 1
        }
        more = {
            WORDS[name]: printable(trial.architecture.get(name)) for name in rarely_cut(self.trials)
        }
        there = {
            f"{printable(place)} ms": f"{ms:.4g}" for place, ms in self.elsewhere(trial).items()
        }
        noise: dict[str, Any] = {}
        for title, found in ((WITHIN_NOISE, self.ties), (DOMINATED_BY, self.dominated)):
            if any(found.values()):
                noise[title] = listed(found.get(trial.number, ()))
        if any(one.best_step == 0 for one in self.members):
            noise["training"] = AS_CUT if trial.best_step == 0 else ""
        role = self.role(trial)
        named = {
            "trial": trial.number,
            "student": printable(f"{trial.label} ({role})" if role else trial.label),
        }
        return {**named, **figures, **noise, **there, **more, **policies}

    def beside_teacher(self, trial: Trial) -> dict[str, str]:
        """Return the trial's speedup and its parameters, if they are known of some trial."""
        found = {}
        if any(isfinite(one.speedup) for one in self.members):
            found["times faster"] = f"{trial.speedup:.2f}" if isfinite(trial.speedup) else "-"
        if any(one.parameters for one in self.members):
            count = millions(trial.parameters) if trial.parameters else "-"
            share = self.share_of_teacher(trial)
            found["parameters"] = f"{count} ({share})" if share else count
        return found

    def elsewhere(self, trial: Trial) -> dict[str, float]:
        """Return the student's latency in ms on each other target; NaN if not measured."""
        name = TEACHER if trial is self.teacher else trial.label
        return {place: known.get(name, float("nan")) for place, known in self.measured.items()}

    def _frame(self, trials: Iterable[Trial]) -> pd.DataFrame:
        on_front = {trial.number for trial in self.members}
        rows = [self._row(trial, trial.number in on_front) for trial in trials]
        # an empty front keeps its columns
        columns = list(self._row(self.trials[0], on_front=False)) if self.trials else None
        return pd.DataFrame(rows, columns=columns)

    def _row(self, trial: Trial, on_front: bool) -> dict[str, Any]:  # noqa: FBT001 - a column
        own = trial.architecture
        row: dict[str, Any] = {"trial": trial.number, "student": trial.label}
        for name in self.objectives.names:
            found = trial.measurements.get(name)
            row[name] = found.value if found else float("nan")
            row[f"{name}_spread"] = found.spread if found else float("nan")
        if self.confirmed:
            again = self.confirmed.get(trial.number)
            for name in self.objectives.names:
                row[f"{name}_confirmed"] = float("nan") if again is None else again.value(name)
            row["dominated_when_confirmed_by"] = listed(self.overtaken.get(trial.number, ()))
        row |= {f"{place}_ms": ms for place, ms in self.elsewhere(trial).items()}
        row |= {name: own[name] for name in (*SIZES, *CHOSEN) if name in own}
        row["best_step"] = float("nan") if trial.best_step is None else trial.best_step
        row["role"] = self.role(trial) or "student"
        row["dominated_within_noise_by"] = listed(self.dominated.get(trial.number, ()))
        return row | {"on_front": on_front, "state": str(trial.state), "reason": trial.reason}

    @abstractmethod
    def weights(self, trial: Trial) -> Path:
        """Return the folder with a trial's weights; it does not exist if they were not kept."""

    @abstractmethod
    def export(self, trial: Trial | int, folder: str | Path | None = None) -> Path:
        """Write a trial's student as a Hugging Face checkpoint and return its folder."""

    @abstractmethod
    def train(self, trial: Trial | int, *args: Any, **options: Any) -> Path:
        """Train a trial's student on its teacher's outputs and return its folder."""

    @abstractmethod
    def export_for(self, trial: Trial | int, *args: Any, **options: Any) -> Path:
        """Write a trial's student and a script for another trainer; return the script."""
