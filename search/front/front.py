"""`Front`, the result of a study: choose and export students, write the report."""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from protege.search.analysis.advice import advice
from protege.search.analysis.choosing import ChosenStudent, knee, pick, timed
from protege.search.analysis.result import MEASURED
from protege.search.front.export import export
from protege.search.front.plots import PlottedResult
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.results import damage, weights_folder
from protege.search.records.trial import State, Trial
from protege.search.storage.explaining import explained, shown_storage, undamaged
from protege.search.storage.format import IDENTITY, run_of
from protege.search.storage.locating import database_path, folder_name
from protege.search.storage.run_folder import RunFolder, find_run_folder, locate_run
from protege.search.storage.storage import read_study
from protege.search.study.artifacts import UploadedWeights
from protege.search.study.study import trials_of
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic, write_text
from protege.spaces.files.hashing import digest
from protege.spaces.files.private import owner_only

ADVICE = "name another folder with folder= or --folder"


class Front(PlottedResult):
    """The Pareto front of a study, with its tables and figures."""

    @classmethod
    def read(cls, run: str | Path, name: str | None = None) -> "Front":
        """Read the front of a run.

        Args:
            run: The run folder, its ``study.db``, or a storage URL.
            name: The study's name; needed if the storage has several.

        Raises:
            BadInput: There is no study, it has no finished trial, it is damaged, or it has another
                format.
        """
        place = locate_run(run)
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
            objectives = ObjectiveRecords.of_records(about["goals"])
            sent = UploadedWeights(about["artifacts"], own) if about["artifacts"] else None
            folder = find_run_folder(place, named, own, about["folder"])
            database = database_path(place.storage)
            identity = study.user_attrs.get(IDENTITY, {})
            return cls(named, folder, objectives, trials, about, identity, sent, own, database)

    def pick(self, **budgets: float) -> ChosenStudent:
        """Choose the best student within budgets, such as ``pick(latency_ms=8)``.

        A budget is an upper bound on a minimised objective or a lower bound on a maximised one.
        ``speedup`` is one too if a latency was measured. Of the students within all budgets, the
        best one in the first quality without a budget is picked. If every budget is on a quality,
        it is the best one in the first cost: ``pick(retention=0.9)`` is the fastest student that
        keeps 90%. Without a budget it is the `knee`. The teacher and the naive half are never
        picked. A student that another one dominates within noise is picked only if no other is
        within the budgets.

        Raises:
            BadInput: A budget names no objective or is not finite, or no student is within all of
                them; the message says what each budget costs.
        """
        return pick(self, budgets)

    def knee(self) -> ChosenStudent:
        """Choose the student at the knee: the one with the least summed loss over all objectives.

        The loss in an objective is the distance to its best value, relative to its range over the
        front. With two objectives the knee is the student farthest from the line between the ends
        of the front (Das, Structural and Multidisciplinary Optimization 18, 1999).

        Raises:
            BadInput: No student is on the front.
        """
        return knee(self)

    def advice(self) -> list[str]:
        """Return advice on the result in sentences, the most urgent first.

        It says which students are small beside the teacher, which sizes of the space to widen, how
        much of the latency does not come from layers, when to distil in steps, and how many tokens
        to plan for a full training.
        """
        best = self.knee().trial if self.students else None
        return advice(self, best, timed(self))

    def keep(self, label: str, record: Mapping[str, Any]) -> Path:
        """Store the result of ``protege measure`` on another target; tables show it too."""
        path = self._own_folder() / MEASURED / f"{digest(label.encode())}.json"
        with _written(path, ADVICE), self._owned():
            write_text(path, json.dumps({"label": label, **record}, indent=1))
        return path

    def weights(self, trial: Trial) -> Path:
        """Return the folder with a trial's weights; it does not exist if they were not kept.

        Weights on the front that are missing or damaged are downloaded from the store, if any.

        Raises:
            BadInput: The store cannot be read, or the weights are damaged or another study's.
        """
        stored = weights_folder(self.folder, trial.number)
        damaged = damage(stored, trial.weights)
        if damaged and self.sent and trial in self.members:
            stored = weights_folder(self._own_folder(), trial.number)
            with (
                _written(stored, "read the study where there is a disk that can be written"),
                self._owned(),
            ):
                self.sent.fetch(stored, trial.weights)
            damaged = damage(stored, trial.weights)
        if damaged and stored.exists():
            raise BadInput(
                f"trial {trial.number} ({trial.label}): {damaged}; take another trial, or train it "
                "again in a new study"
            )
        return stored

    def export(self, trial: Trial | int, folder: str | Path | None = None) -> Path:
        """Write a trial's student as a Hugging Face checkpoint; see `protege.search.front.export`.

        Args:
            trial: The trial or its number.
            folder: The new folder; by default ``students/<label>`` in the run folder.

        Raises:
            BadInput: The folder is not empty, or the trial's weights were not kept.
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
        """Write the report as one self-contained HTML file, and the front as CSV.

        Args:
            folder: The folder of ``index.html`` and ``front.csv``. By default the report goes to
                ``report`` in the run folder, and the table to the run folder.

        Returns:
            The path of ``index.html``.

        Raises:
            BadInput: The folder cannot be written.
        """
        from protege.search.report.page import write_report  # loads Plotly

        self.save(folder)
        if folder:
            with _written(Path(folder), ADVICE):
                return write_report(self, Path(folder) / "index.html")
        target = self._own_folder() / "report"
        with _written(target, ADVICE), self._owned():
            return write_report(self, target / "index.html")

    def save(self, folder: str | Path | None = None) -> Path:
        """Write the front to ``front.csv`` in a folder, by default the run folder.

        Raises:
            BadInput: The folder cannot be written.
        """
        path = (Path(folder) if folder else self._own_folder()) / "front.csv"
        mode = nullcontext() if folder else self._owned()
        with _written(path, ADVICE), mode, atomic(path) as scratch:
            self.table.to_csv(scratch, index=False)
        return path

    def _own_folder(self) -> Path:
        """Return the run folder, created and marked if it is missing.

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
        """Create files with the permissions of the run folder."""
        return owner_only(self.folder, private=self.about.get("private", True))


@contextmanager
def _written(path: Path, advice: str) -> Iterator[None]:
    """Turn errors about a read-only disk or missing permissions into `BadInput`.

    Raises:
        BadInput: The path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise
        raise BadInput(f"{path}: cannot be written ({error.strerror}); {advice}") from error
