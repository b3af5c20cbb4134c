"""The result of a study: who is on the front, which one fits a budget, and how to take it away."""

import errno
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from protege.search.choosing import Choice, knee, pick
from protege.search.export import export
from protege.search.fidelity import Fidelity
from protege.search.goals import Goals
from protege.search.heads import HeadScores
from protege.search.plain import printable
from protege.search.private import owner_only
from protege.search.reporting import write_report
from protege.search.reporting.wording import (
    AS_CUT,
    CHOSEN,
    DOMINATED_BY,
    WITHIN_NOISE,
    figure,
    listed,
    rarely_cut,
)
from protege.search.reporting.wording import SIZES as WORDS
from protege.search.results import artifact
from protege.search.run_folder import RunFolder, folder_name, found_folder, located
from protege.search.study import (
    Sent,
    database_path,
    explained,
    read_study,
    run_of,
    shown_storage,
    trials_of,
    undamaged,
)
from protege.search.ties import Noise
from protege.search.trial import State, Trial
from protege.search.weights import damage
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, write_text
from protege.spaces.files.hashing import digest
from protege.spaces.space.knobs import SIZES

TEACHER, NAIVE = "teacher", "naive half"
"""What those are called that students are compared with."""

MEASURED = "measured"
"""In a run folder: what the study's students take elsewhere."""

ADVICE = "name another folder with folder= or --folder"

_KEPT = re.compile(r"[0-9a-f]{16}\.json")
"""The names of files that `Front.keep` writes."""


@dataclass(frozen=True)
class Front:
    """A study's trials, seen from its Pareto front.

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

    @classmethod
    def read(cls, run: str | Path, name: str | None = None) -> "Front":
        """Read the front of a run.

        Args:
            run: The run folder, its ``study.db``, or a storage URL.
            name: The study, where the storage has several.

        Raises:
            BadInput: There is no study, it has no finished trial, or it is damaged or of another
                format.
        """
        place = located(run)
        with undamaged(shown_storage(place.storage)), explained(place.storage):
            study = read_study(place.storage, name or place.study or None)
            named = study.study_name
            own = run_of(study, shown_storage(place.storage))
            trials = tuple(trials_of(study))
            if not any(trial.state is State.COMPLETE for trial in trials):
                raise BadInput(
                    f"{shown_storage(place.storage)}: study {named!r} has no finished trial yet; "
                    "run the study first, or for longer"
                )
            about = study.user_attrs["about"]
            goals = Goals.of_records(about["goals"])
            sent = Sent.by(study, about["artifacts"])
            folder = found_folder(place, named, own, about["folder"])
            database = database_path(place.storage)
            return cls(named, folder, goals, trials, about, sent, own, database)

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
        standard errors; see `protege.search.ties`.
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

    def keep(self, label: str, record: Mapping[str, Any]) -> Path:
        """Keep what ``protege measure`` found of its students in a place; tables tell it too."""
        path = self._own_folder() / MEASURED / f"{digest(label.encode())}.json"
        with _written(path, ADVICE), self._owned():
            write_text(path, json.dumps({"label": label, **record}, indent=1))
        return path

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

    def pick(self, **budgets: float) -> Choice:
        """Choose the best student within budgets, such as ``pick(latency_ms=8)``.

        A budget is the most of what is minimised and the least of what is maximised; ``speedup``
        is one too where a latency was measured. Of the students within all budgets the one wins
        that is best in the first quality without a budget. If every budget is on a quality, the
        one wins that is best in the first cost: ``pick(retention=0.9)`` is the fastest student
        that keeps 90%. The teacher and the naive half are never picked, and a student that another
        one dominates within noise only if no other is within the budgets. Without a budget it is
        the `knee`.

        Raises:
            BadInput: A budget is for no objective or no number, or no student is within all of
                them; the error says what each budget costs.
        """
        return pick(self, budgets)

    def knee(self) -> Choice:
        """Choose the student at the knee: it loses least to the best of every goal, in all.

        The loss in a goal is a share of the goal's range over the front. With two goals it is the
        student farthest from the line between the ends of the front (Das, Structural and
        Multidisciplinary Optimization 18, 1999).

        Raises:
            BadInput: There is no student on the front.
        """
        return knee(self)

    def trial(self, number: int) -> Trial:
        """The trial of that number.

        Raises:
            BadInput: There is none.
        """
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise BadInput(f"no trial {number} in study {self.name!r}; it has {len(self.trials)}")

    def weights(self, trial: Trial) -> Path:
        """Return the folder with a trial's weights; it does not exist if they were not kept.

        They are fetched first if only a store has them whole.

        Raises:
            BadInput: The store cannot be read, or the weights are damaged or another study's.
        """
        stored = artifact(self.folder, trial.number)
        damaged = damage(stored, trial.weights)
        if damaged and self.sent and trial in self.members:
            stored = artifact(self._own_folder(), trial.number)
            with (
                _written(stored, "read the study where there is a disk that can be written"),
                self._owned(),
            ):
                self.sent.fetch(stored)
            damaged = damage(stored, trial.weights)
        if damaged and stored.exists():
            raise BadInput(
                f"trial {trial.number} ({trial.label}): {damaged}; take another trial, or train it "
                "again in a new study"
            )
        return stored

    def export(self, trial: Trial | int, folder: str | Path | None = None) -> Path:
        """Write a trial's student as a Hugging Face checkpoint; see `protege.search.export`.

        Args:
            trial: The trial or its number.
            folder: Where to; ``students/<label>`` in the run folder if not given.

        Raises:
            BadInput: The folder has something in it, or the trial's weights were not kept.
        """
        chosen = self.trial(trial) if isinstance(trial, int) else trial
        inside = Path("students", folder_name(chosen.label))
        target = Path(folder) if folder else self._own_folder() / inside
        stored = self.weights(chosen)
        if chosen in self.members and not stored.exists():
            where, what = str(stored), "restore the folder from a copy, or run a new study"
            if self.sent:
                where, what = self.sent.url, "run the study again where its run folder is"
            raise BadInput(
                f"trial {chosen.number} ({chosen.label}): on the front, but its weights are not in "
                f"{where}; {what}"
            )
        with _written(target, "export into a folder on another disk"):
            return export(chosen, stored, target, self.about)

    def report(self, folder: str | Path | None = None) -> Path:
        """Write the report as one file that needs no network, and the front as CSV.

        Args:
            folder: Where ``index.html`` and ``front.csv`` go. If not given, they go to ``report``
                in the run folder, and to the run folder.

        Raises:
            BadInput: Nothing can be written there.
        """
        self.save(folder)
        if folder:
            with _written(Path(folder), ADVICE):
                return write_report(self, Path(folder) / "index.html")
        target = self._own_folder() / "report"
        with _written(target, ADVICE), self._owned():
            return write_report(self, target / "index.html")

    def save(self, folder: str | Path | None = None) -> Path:
        """Write the front to ``front.csv`` in a folder, by default that of the run.

        Raises:
            BadInput: Nothing can be written there.
        """
        path = (Path(folder) if folder else self._own_folder()) / "front.csv"
        mode = nullcontext() if folder else self._owned()
        with _written(path, ADVICE), mode, atomic(path) as scratch:
            self.table.to_csv(scratch, index=False)
        return path

    def _own_folder(self) -> Path:
        """Return the run folder to write to; where it is not, a new one is made and marked.

        Raises:
            BadInput: The folder is another study's, or cannot be written.
        """
        if self.run:
            with _written(self.folder, ADVICE):
                own = RunFolder(self.folder, self.name, self.database)
                own.check(self.run)
                with self._owned():
                    own.bind(self.run)
        return self.folder

    def _owned(self) -> AbstractContextManager[None]:
        """Create files as the study that made the run folder does."""
        return owner_only(self.folder, private=self.about.get("private", True))

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


@contextmanager
def _written(path: Path, advice: str) -> Iterator[None]:
    """Explain why a file or a folder cannot be written.

    Raises:
        BadInput: The disk is read-only, or the system does not permit it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise
        raise BadInput(f"{path}: cannot be written ({error.strerror}); {advice}") from error
