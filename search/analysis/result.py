"""The trials of a finished study, seen from its Pareto front."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from protege.search.analysis.fidelity import Fidelity
from protege.search.analysis.ties import Noise
from protege.search.records.goals import Goals
from protege.search.records.heads import HeadScores
from protege.search.records.plain import printable
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    AS_CUT,
    CHOSEN,
    DOMINATED_BY,
    WITHIN_NOISE,
    figure,
    listed,
    rarely_cut,
)
from protege.search.records.wording import SIZES as WORDS
from protege.search.storage.explaining import undamaged
from protege.search.study.artifacts import Sent
from protege.spaces import BadInput
from protege.spaces.space.knobs import SIZES

TEACHER, NAIVE = "teacher", "naive half"
"""What those are called that students are compared with."""

MEASURED = "measured"
"""In a run folder: what the study's students take elsewhere."""

_KEPT = re.compile(r"[0-9a-f]{16}\.json")
"""The names of files that `Front.keep` writes."""


@dataclass(frozen=True)
class StudyResult(ABC):
    """A study's trials, seen from its Pareto front; `protege.search.Front` is the one that is read.

    Attributes:
        name: The study.
        folder: The run folder with its artifacts.
        goals: What trials are judged by.
        trials: Every trial that was told.
        about: What the study recorded of itself: teacher, seed, seconds by phase.
        sent: The weights that are in a store, if the study has one.
        run: The id that binds the study and its run folder.
        database: The file with the study, or None for a server.
    """

    name: str
    folder: Path
    goals: Goals
    trials: tuple[Trial, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    sent: Sent | None = None
    run: str = ""
    database: Path | None = None

    @cached_property
    def members(self) -> list[Trial]:
        """The trials on the front, ordered by the first goal."""
        return self.goals.front(self.trials)

    @cached_property
    def teacher(self) -> Trial | None:
        """The teacher's own trial."""
        key = self.about.get("teacher", {}).get("key")
        return next((t for t in self.trials if t.key == key and t.state is State.COMPLETE), None)

    @property
    def heads(self) -> list[HeadScores]:
        """The importance of the teacher's heads, of each criterion that they were cut by."""
        return [HeadScores(**record) for record in self.about.get("heads", ())]

    @cached_property
    def measured(self) -> dict[str, dict[str, float]]:
        """Milliseconds of its students elsewhere: by place, then by the student's label."""
        found = {}
        for path in sorted((self.folder / MEASURED).glob("*.json")):
            if not _KEPT.fullmatch(path.name):
                continue  # somebody else's
            with undamaged(str(path), "remove the file, or measure there again"):
                record = json.loads(path.read_bytes())
                models: Mapping[str, Any] = record["models"]
                label = str(record["label"])
                found[label] = {name: float(one["ms"]) for name, one in models.items()}
        return found

    @cached_property
    def fidelity(self) -> Fidelity | None:
        """How its rungs agree with longer distillations, where some were measured."""
        return Fidelity.read(self.folder)

    @cached_property
    def students(self) -> list[Trial]:
        """The students on the front: its members without the teacher and the naive half."""
        return [trial for trial in self.members if not self.role(trial)]

    @cached_property
    def choices(self) -> list[Trial]:
        """The students that no other student dominates within noise; see `beaten`."""
        return self.standing(self.students)

    @cached_property
    def ties(self) -> dict[int, list[int]]:
        """The trials on the front that each one on it is within noise of in every goal, by number.

        Qualities are judged on the same held-out examples, pair by pair, and all else by its
        standard errors; see `protege.search.analysis.ties`.
        """
        numbers = [trial.number for trial in self.members]
        return {
            number: [other for other, tied in zip(numbers, row, strict=True) if tied]
            for number, row in zip(numbers, self._noise.tied, strict=True)
        }

    @cached_property
    def beaten(self) -> dict[int, list[int]]:
        """The students that others dominate within noise, and which others: numbers of trials.

        One student dominates another within noise if it is better in some goal by more than noise
        and worse in none by more than noise. Both are on the exact front.
        """
        return self._beaten(self.students)

    def standing(self, among: Sequence[Trial]) -> list[Trial]:
        """Those of some trials on the front that no other of them dominates within noise."""
        beaten = self._beaten(among)
        return [trial for trial in among if trial.number not in beaten]

    def _beaten(self, among: Sequence[Trial]) -> dict[int, list[int]]:
        at = {trial.number: place for place, trial in enumerate(self.members)}
        found = self._noise.beaten([at[trial.number] for trial in among])
        numbers = list(at)
        return {numbers[one]: [numbers[other] for other in above] for one, above in found.items()}

    @cached_property
    def _noise(self) -> Noise:
        """What measurement error leaves open between the members."""
        goals = self.goals.goals
        found = [[trial.measurements[goal.name] for trial in self.members] for goal in goals]
        return Noise.of(found, [goal.sign for goal in goals])

    def role(self, trial: Trial) -> str:
        """Return ``teacher`` or ``naive half`` for these two, and nothing for a student."""
        if trial.key == self.about.get("teacher", {}).get("key"):
            return TEACHER
        return NAIVE if trial.key == self.about.get("naive") else ""

    @property
    def table(self) -> pd.DataFrame:
        """The front, one row a student."""
        return self._frame(self.members)

    @property
    def candidates(self) -> pd.DataFrame:
        """Every trial, whatever became of it, in order."""
        return self._frame(self.trials)

    @property
    def hypervolume(self) -> float:
        """Share of the teacher's box that the front dominates; see `Goals.hypervolume`.

        Not a number as long as the teacher itself was not measured.
        """
        if self.teacher is None:
            return float("nan")
        return self.goals.hypervolume(self.trials, self.teacher)

    def trial(self, number: int) -> Trial:
        """The trial of that number.

        Raises:
            BadInput: There is none.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise BadInput(f"no trial {number} in study {self.name!r}; it has {len(self.trials)}")

    def __str__(self) -> str:
        if not self.members:
            return "No student is within the study's limits."
        return pd.DataFrame([self._line(trial) for trial in self.members]).to_string(index=False)

    def _line(self, trial: Trial) -> dict[str, Any]:
        """The trial for a terminal: one column a goal, the error beside the value."""
        figures = {printable(name): figure(trial.measurements[name]) for name in self.goals.names}
        policies = {name: printable(trial.architecture.get(name, "none")) for name in CHOSEN}
        more = {
            WORDS[name]: printable(trial.architecture.get(name)) for name in rarely_cut(self.trials)
        }
        there = {
            f"{printable(place)} ms": f"{ms:.4g}" for place, ms in self.elsewhere(trial).items()
        }
        noise: dict[str, Any] = {}
        for title, found in ((WITHIN_NOISE, self.ties), (DOMINATED_BY, self.beaten)):
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

    def elsewhere(self, trial: Trial) -> dict[str, float]:
        """What the trial's student takes in each other place; not a number where nobody looked."""
        name = TEACHER if trial is self.teacher else trial.label
        return {place: known.get(name, float("nan")) for place, known in self.measured.items()}

    def _frame(self, trials: Iterable[Trial]) -> pd.DataFrame:
        on_front = {trial.number for trial in self.members}
        rows = [self._row(trial, trial.number in on_front) for trial in trials]
        # a front that nobody is on has its columns all the same
        columns = list(self._row(self.trials[0], on_front=False)) if self.trials else None
        return pd.DataFrame(rows, columns=columns)

    def _row(self, trial: Trial, on_front: bool) -> dict[str, Any]:  # noqa: FBT001 - a column
        own = trial.architecture
        row: dict[str, Any] = {"trial": trial.number, "student": trial.label}
        for name in self.goals.names:
            found = trial.measurements.get(name)
            row[name] = found.value if found else float("nan")
            row[f"{name}_spread"] = found.spread if found else float("nan")
        row |= {f"{place}_ms": ms for place, ms in self.elsewhere(trial).items()}
        row |= {name: own[name] for name in (*SIZES, *CHOSEN) if name in own}
        row["best_step"] = float("nan") if trial.best_step is None else trial.best_step
        row["role"] = self.role(trial) or "student"
        row["dominated_within_noise_by"] = listed(self.beaten.get(trial.number, ()))
        return row | {"on_front": on_front, "state": str(trial.state), "reason": trial.reason}

    @abstractmethod
    def export(self, trial: Trial | int, folder: str | Path | None = None) -> Path:
        """Write a trial's student as a Hugging Face checkpoint and return its folder."""
