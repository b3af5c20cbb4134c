"""`Front`, the result of a study: choose and export students, write the report."""

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protege.search.analysis.advice import advice, advice_on
from protege.search.analysis.card import ChosenStudent, front_row
from protege.search.analysis.choosing import knee, pick, timed
from protege.search.analysis.confirmation import Confirmation
from protege.search.analysis.result import MEASURED
from protege.search.front.plots import PlottedResult
from protege.search.handover.checkpoint import export
from protege.search.handover.formats.table import FormatName, WeightPrecision
from protege.search.handover.plan import TrainingPlan
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.plain import printable
from protege.search.records.results import damage, weights_folder
from protege.search.records.trial import State, Trial
from protege.search.records.wording import figure
from protege.search.storage.attributes import ABOUT, IDENTITY, study_record
from protege.search.storage.explaining import explained, shown_storage, undamaged
from protege.search.storage.format import run_of
from protege.search.storage.locating import database_path, folder_name
from protege.search.storage.run_folder import RunFolder, find_run_folder, locate_run
from protege.search.storage.storage import read_study
from protege.search.study.artifacts import UploadedWeights
from protege.search.study.store import Store
from protege.search.study.study import trials_of
from protege.spaces import BadInput
from protege.spaces.arguments import checks_arguments
from protege.spaces.files.atomic import atomic, write_text
from protege.spaces.files.hashing import digest
from protege.spaces.files.private import owner_only
from protege.spaces.plain_text import html_table

SHOWN = "dashboard"
"""Folder in a run folder with the files that Optuna Dashboard offers."""

if TYPE_CHECKING:  # reading a study loads no torch
    from protege.search.handover.exported import ExportedStudent
    from protege.search.handover.scripts.training_script import TrainerName
    from protege.search.handover.starting import Data
    from protege.search.handover.training import FullTraining
    from protege.spaces import Teacher

ADVICE = "name another folder with folder= or --folder"


class Front(PlottedResult):
    """The Pareto front of a study, with its tables and figures."""

    @classmethod
    @checks_arguments
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
            about = study_record(study, ABOUT)
            objectives = ObjectiveRecords.of_records(about["goals"])
            sent = UploadedWeights(about["artifacts"], own) if about["artifacts"] else None
            folder = find_run_folder(place, named, own, about["folder"])
            database = database_path(place.storage)
            identity = study_record(study, IDENTITY)
            return cls(named, folder, objectives, trials, about, identity, sent, own, database)

    @checks_arguments
    def pick(self, **budgets: float) -> ChosenStudent:
        """Choose the best student within budgets, such as ``pick(latency_ms=8)``.

        A budget is an upper bound on a minimised objective or a lower bound on a maximised one.
        ``speedup`` is one too if a latency was measured, and ``parameters_m``, in millions. Of the
        students within all budgets, the best one in the first quality without a budget is picked.
        If every budget is on a quality, it is the best one in the first cost:
        ``pick(retention=0.9)`` is the fastest student that keeps 90%. Without a budget it is the
        `knee`. The teacher and the naive half are never picked. A student that another one
        dominates within noise is picked only if no other is within the budgets.

        Raises:
            BadInput: A budget names no objective or is not finite, or no student is within all of
                them; the message says what each budget costs.
        """
        trial, why = pick(self, budgets)
        return ChosenStudent(trial, self, why)

    def __repr__(self) -> str:
        return f"<Front {printable(self.name)!r}: {self._found}, {printable(self.folder)}>"

    def _repr_html_(self) -> str:
        return html_table(
            [front_row(self, trial) for trial in self.members], f"{self.name}: {self._found}"
        )

    @property
    def _found(self) -> str:
        return f"{len(self.students)} students on the front of {len(self.trials)} trials"

    def knee(self) -> ChosenStudent:
        """Choose the student at the knee: the one with the least summed loss over all objectives.

        The loss in an objective is the distance to its best value, relative to its range over the
        front. With two objectives the knee is the student farthest from the line between the ends
        of the front (Das, Structural and Multidisciplinary Optimization 18, 1999).

        Raises:
            BadInput: No student is on the front.
        """
        trial, why = knee(self)
        return ChosenStudent(trial, self, why)

    def confirm(
        self,
        trials: Iterable[Trial | int] | None = None,
        *,
        again: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> dict[int, Confirmation]:
        """Measure students again from their exported files, and store the figures with the run.

        Each is exported and loaded in a process of its own: latency is measured interleaved with
        the teacher's, quality also on data that the search never used. Tables and reports then
        show both figures, and `overtaken` names the students that others dominate by them.

        Args:
            trials: The trials or their numbers; by default all students of the front.
            again: Whether to measure those again that are confirmed already.
            tell: Prints a line per student.

        Returns:
            The figures by trial number.

        Raises:
            BadInput: The declaration of the study is not at hand: this front was read from a
                storage.
        """
        from protege.objectives import Candidate  # loads torch
        from protege.search.front.confirming import confirm_apart

        if self.declared is None:
            raise BadInput(
                f"study {self.name!r}: data and objectives are needed to measure its students "
                "again; give the study file, or use the front that Search.run returned"
            )
        given = self.students if trials is None else trials
        chosen = [self.trial(one) if isinstance(one, int) else one for one in given]
        found = {} if again else dict(self.confirmed)
        own: Candidate | None = None
        for trial in chosen:
            if trial.number not in found:
                # prepared only if there is something to measure
                own = own or Candidate(self.declared.prepare(), self.declared.teacher.architecture)
                values = confirm_apart(self.declared.objectives, own, self._exported(trial).folder)
                found[trial.number] = Confirmation(trial.number, trial.weights, values)
                with self._owned():
                    found[trial.number].store(self._own_folder())
            tell(self._confirmed_line(trial, found[trial.number]))
        for name in ("confirmed", "overtaken"):  # they are read again
            vars(self).pop(name, None)
        return {trial.number: found[trial.number] for trial in chosen}

    def _confirmed_line(self, trial: Trial, found: Confirmation) -> str:
        figures = [
            f"{printable(name)} {figure(trial.measurements[name])}, confirmed {again:.4g}"
            for name in self.objectives.names
            if (again := found.value(name)) is not None
        ]
        return f"trial {trial.number}: {printable(trial.label)}: {'; '.join(figures)}"

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

    @checks_arguments
    def export(
        self,
        trial: Trial | int,
        folder: str | Path | None = None,
        *,
        formats: Iterable[FormatName] = (),
        precision: WeightPrecision = "float32",
    ) -> Path:
        """Write a trial's student as a Hugging Face checkpoint, with its card and record.

        Args:
            trial: The trial or its number.
            folder: The new folder; by default ``students/<label>`` in the run folder.
            formats: Formats to write the model in too; see `export_formats`.
            precision: The precision of the weights in these.

        Raises:
            BadInput: The folder is not empty, the trial's weights were not kept, or a format does
                not support the model.
            Unexportable: An export failed, or answers differently.
        """
        chosen = trial if isinstance(trial, Trial) else self.trial(trial)
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
            settings = self.identity.get("distillation")
            about = {**self.about, "precisions": self.precisions}
            export(chosen, stored, target, about, settings, advice_on(self, chosen))
        if formats:
            from protege.search.handover.formats.exporting import export_formats  # loads torch

            export_formats(target, formats, precision)
        return target

    def train(  # noqa: PLR0913 - one keyword for each choice of a user
        self,
        trial: Trial | int,
        data: "Data | None" = None,
        folder: str | Path | None = None,
        *,
        plan: TrainingPlan | None = None,
        teacher: "Teacher | str | Path | None" = None,
        evaluation: "Data | None" = None,
        resume: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        show: Callable[[str], None] = lambda _: None,
    ) -> Path:
        """Train a trial's student on its teacher's outputs, with the study's losses.

        The student is exported first, if it was not. Then `transformers.Trainer` trains it, in as
        many processes as ``accelerate launch`` started; the first of the study's objectives that
        judges students, measured on held-out data, selects the published weights.

        Args:
            trial: The trial or its number.
            data: Data to train on; None takes the study's own, if this front is what `Search.run`
                returned.
            folder: The new folder; by default ``trained/<label>`` in the run folder.
            plan: Length, learning rate and all other settings.
            teacher: The teacher, or where to load it from; by default where the study had it.
            evaluation: Data to evaluate on; None holds a part of the data out.
            resume: Whether to continue an interrupted training from its last checkpoint.
            tell: Prints a line.
            show: Shows a line in place of the last one.

        Returns:
            The folder.

        Raises:
            BadInput: There is no data, the folder is not empty, or the teacher is gone.
            Mismatch: The teacher is not the study's.
        """
        chosen = self.trial(trial) if isinstance(trial, int) else trial
        inside = Path("trained", folder_name(chosen.label))
        target = Path(folder) if folder else self._own_folder() / inside
        training = self._training(
            self._exported(chosen),
            data,
            target,
            {"plan": plan, "evaluation": evaluation, "tell": tell, "show": show},
            teacher,
        )
        return training.run(resume=resume)

    def export_for(  # noqa: PLR0913 - one keyword for each choice of a user
        self,
        trial: Trial | int,
        trainer: "TrainerName",
        data: "Data | None" = None,
        folder: str | Path | None = None,
        *,
        plan: TrainingPlan | None = None,
        teacher: "Teacher | str | Path | None" = None,
        tell: Callable[[str], None] = lambda _: None,
        show: Callable[[str], None] = lambda _: None,
    ) -> Path:
        """Write a trial's student, and a script with data by which another trainer trains it.

        The student is exported first, if it was not. Beside its folder a folder ``FOLDER-TRAINER``
        gets ``train.py`` and ``data``: the teacher's outputs as Parquet files.

        Args:
            trial: The trial or its number.
            trainer: ``"trainer"``, the one of transformers; ``"sentence-transformers"``; or
                ``"gkd"``, the one of TRL, for which the teacher runs at every step.
            data: Data to train on; None takes the study's own, if this front is what `Search.run`
                returned.
            folder: The student's folder; by default ``students/<label>`` in the run folder.
            plan: Epochs, batch size, learning rate and schedule; the rest is not used.
            teacher: The teacher, or where to load it from; by default where the study had it.
            tell: Prints a line.
            show: Shows a line in place of the last one.

        Returns:
            The path of the script.

        Raises:
            BadInput: The trainer does not fit the student, there is no data, or the folder of the
                script is not empty.
            Unsupported: Only protege trains students of this kind.
        """
        from protege.search.handover.scripts.training_script import TrainingScript

        chosen = self.trial(trial) if isinstance(trial, int) else trial
        student = self._exported(chosen, folder)
        target = student.folder.with_name(f"{student.folder.name}-{trainer}")
        options = {"plan": plan, "tell": tell, "show": show}
        training = self._training(student, data, target, options, teacher)
        return TrainingScript(training, trainer).write()

    def _training(
        self,
        student: "ExportedStudent",
        data: "Data | None",
        target: Path,
        options: Mapping[str, Any],
        teacher: "Teacher | str | Path | None",
    ) -> "FullTraining":
        """Prepare the training of a student of this study."""
        from protege.search.handover.starting import full_training  # it loads torch

        own = self.declared
        asked = self.about.get("answers_from") or self.about["teacher"]
        return full_training(
            student,
            data,
            target,
            teacher=teacher or (None if own else asked["source"]),
            declared=own,
            cache=None if own is None else own.cache,
            **options,
        )

    def _exported(self, trial: Trial, place: str | Path | None = None) -> "ExportedStudent":
        """Return the exported student of a trial; export it if it is not there.

        Args:
            trial: The trial.
            place: Its folder; by default the one in the run folder.
        """
        from protege.search.handover.exported import ExportedStudent

        inside = Path("students", folder_name(trial.label))
        folder = Path(place) if place else self._own_folder() / inside
        if not folder.exists():
            self.export(trial, folder)
        found = ExportedStudent.read(folder)
        study = found.manifest.get("study", {})
        if (study.get("name"), study.get("trial")) != (self.name, trial.number):
            raise BadInput(
                f"{folder}: not the student of trial {trial.number} of study {self.name!r}; remove "
                "the folder"
            )
        return found

    @checks_arguments
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

    @checks_arguments
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

    @contextmanager
    def shown_files(self) -> Iterator[Store]:
        """Open the store of what Optuna Dashboard offers: the study's, else one in the run folder.

        Raises:
            BadInput: The folder cannot be written.
        """
        if self.sent:
            yield Store.at(self.sent.url)
            return
        folder = self._own_folder() / SHOWN
        with _written(folder, "run the command where it can be written"), self._owned():
            folder.mkdir(parents=True, exist_ok=True)
            yield Store.at(str(folder.resolve()))

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
