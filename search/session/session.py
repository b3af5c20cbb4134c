"""A session: one run of a study, from its locks to its front."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from protege.objectives import Candidate, Objective
from protege.objectives.candidate import Prepared
from protege.objectives.measurement import Stage
from protege.objectives.objective import exceeds, scores_rungs
from protege.search.analysis.result import StudyResult
from protege.search.display.study import StudyProgress
from protege.search.engines.engine import Engine, StudyTask, remove_task
from protege.search.engines.local import SerialEngine
from protege.search.planning.calibrating import compute_outputs, head_scores, with_calibration
from protege.search.planning.calibration_cost import left_out
from protege.search.planning.training_cost import check_training_cost
from protege.search.progress import bar
from protege.search.records.failure import ends_study, warn
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import Trial
from protege.search.running.coordinator import Coordinator
from protege.search.running.stopping import Stopping, StopRequestContext, no_stop_requests
from protege.search.session.about import about, of_run
from protege.search.session.comparison import Comparison
from protege.search.session.deployment import deployment_of
from protege.search.session.earlier import import_earlier
from protege.search.session.identity import SearchDeclaration, identify, identity
from protege.search.storage.attributes import ABOUT, study_record
from protege.search.storage.claim import claimed, held
from protege.search.storage.explaining import explained, shown_storage
from protege.search.storage.format import claimed_run
from protege.search.storage.storage import OptunaStudy
from protege.search.study.artifacts import Artifacts
from protege.search.study.store import Store
from protege.search.study.study import StoredStudy, open_study, trials_of
from protege.spaces import BadInput, SearchSpace
from protege.spaces.files.private import owner_only
from protege.spaces.students.student import check_saves

_LOG = logging.getLogger("protege")

NoteWriter = Callable[[OptunaStudy, Mapping[str, Any], Sequence[Trial], Trial | None], None]


def no_notes(*_: object) -> None:
    """Write no notes."""


@dataclass
class Session:
    """One run of a study.

    Attributes:
        search: The declaration.
        engine: Runs the jobs.
        earlier: Studies whose measurements are imported.
        stop_requests: The context of the trials, which handles requests to end the run early.
        write_notes: Writes notes on the study: given the Optuna study, its record, its finished
            trials, and the one that ended just now, if any.
        file: The study file, if the command line runs one; later commands read it again.
        prepared: What all trials share; without the calibration until the study is open.
        told: Lines that the study has reported, to be recorded.
        comparison: The baselines with their records.
        progress: Shows the study and its running trials; None shows nothing.
        run: The id that study and run folder share; empty until the study is open.
    """

    search: SearchDeclaration
    engine: Engine = field(default_factory=SerialEngine)
    earlier: Sequence[StudyResult] = ()
    stop_requests: StopRequestContext = no_stop_requests
    write_notes: NoteWriter = no_notes
    file: Path | None = None
    prepared: Prepared = field(init=False)
    told: list[str] = field(default_factory=list, init=False)
    comparison: Comparison = field(default_factory=Comparison, init=False)
    heads: list[dict[str, Any]] = field(default_factory=list, init=False)
    progress: StudyProgress | None = field(default=None, init=False)
    run: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.prepared = prepared_for(self.search)

    def go_on(self, stopping: Stopping) -> Coordinator:
        """Run the study until it ends.

        Returns:
            The coordinator, with all finished trials.
        """
        search, stopwatch = self.search, self.prepared.stopwatch
        with explained(search.place), holding(search) as claim, stopwatch.phase("other"):
            if search.artifacts:
                Store.at(search.artifacts).check()
            self._check()
            with bar(search.name, stopping.trials) as progress:
                self.progress, stopwatch.announce = progress, progress.doing
                stopwatch.tell = partial(self._tell, progress)
                # the inner context: neither start nor end of the engine handles signals
                with self.coordinated(claim) as coordinator, self.stop_requests() as leave:
                    coordinator.show()
                    for _ in self.comparison.measure(search.objectives, self.prepared, leave):
                        self._describe(coordinator.study)
                    for trial in coordinator.go_on(stopping, leave):
                        warn(trial)
                        self._note_down(coordinator, trial)
                        coordinator.show(trial)
                self._note_down(coordinator)
        if not coordinator.finished.trials:
            leave.check()  # there is no front to return
        return coordinator

    @contextmanager
    def coordinated(self, claim: Callable[[], None] = lambda: None) -> Iterator[Coordinator]:
        """Open the study and start the engine; close the engine after the block.

        Yields:
            The coordinator of the study.
        """
        stopwatch, search = self.prepared.stopwatch, self.search
        with stopwatch.phase("opening the study"):
            study = self._open()
            study.claim = partial(self._check_is_ours, claim)
        coordinator = Coordinator(
            study=study,
            prepared=self.prepared,
            objectives=search.objectives,
            folder=search.run_folder.path,
            race=search.race,
            engine=self.engine,
            artifacts=Artifacts.of(study.optuna_study, search.artifacts),
            progress=self.progress or StudyProgress(),
        )
        with self._started(study.space):
            yield coordinator

    def _check(self) -> None:
        """Check early what every trial needs.

        Raises:
            BadInput: No student can meet a limit, be saved, or be judged on the data.
        """
        search = self.search
        check_saves(search.teacher, search.students.least_vocab_size)
        for objective in search.objectives:
            if objective.limit is not None and objective.stage < Stage.STUDENT:
                _check_limit(objective, search, self.prepared)
        if search.distillation is not None:
            _ = self.prepared.data.selected  # raises before anything is written
            claimed_folder(search)  # the teacher's outputs are cached there
            with self.prepared.stopwatch.phase("caching teacher outputs"):
                self.prepared.data.check()
        if search.baselines:
            claimed_folder(search)  # what is made from the teacher is cached there
            self.comparison.load(search.baselines, self.prepared)

    def _open(self) -> StoredStudy:
        """Open the study, check its identity, compute what all trials share, and resume."""
        search, objectives = self.search, ObjectiveRecords.of(self.search.objectives)
        claimed_folder(search)
        optuna_study = open_study(search.place, search.name, objectives)
        self.run = claimed_run(optuna_study, shown_storage(search.place))
        if search.run_folder.bind(self.run) and trials_of(optuna_study) and not search.artifacts:
            _LOG.warning(
                "protege: %s: the run folder of study %r was missing, and the weights of its "
                "students with it; the study continues without them",
                search.run_folder.path,
                search.name,
            )
        made_with = identity(search)
        identify(optuna_study, made_with)
        known = study_record(optuna_study, ABOUT)
        self.told = known.get("told", [])
        self.comparison.recall(known.get("baselines", ()))
        space = self._prepare(known.get("parts", 1), is_new=not optuna_study.trials)
        for front in self.earlier:
            import_earlier(
                front, optuna_study, space, objectives, made_with, search.run_folder.path
            )
        study = StoredStudy.open(optuna_study, space, objectives, search.seed, search.sampler)
        study.catch_up()
        for phase, seconds in known.get("seconds", {}).items():
            self.prepared.stopwatch.seconds[phase] += seconds
        self._describe(study)
        return study

    def _prepare(self, parts: int, *, is_new: bool) -> SearchSpace:
        """Compute what all trials share, and return the resolved space."""
        shared, space = replace(self.prepared, batch_parts=parts), self.search.students
        if is_new and shared.distillation is not None:
            shared = replace(
                shared, batch_parts=check_training_cost(shared, list(space.representatives))
            )
        self.prepared = shared = with_calibration(shared, space)
        compute_outputs(shared)
        if shared.calibration is not None:
            self._note(*map(left_out, shared.calibration.stand_ins))
        self.heads = [one.record() for one in head_scores(shared, space)]
        return space if space.is_resolved else space.resolved(shared.calibration)

    @contextmanager
    def _started(self, space: SearchSpace) -> Iterator[None]:
        """Start the engine for this study's jobs, and close it after the block."""
        search, stopwatch = self.search, self.prepared.stopwatch
        folder = search.run_folder.path
        races = search.race is not None and any(map(scores_rungs, search.objectives))
        task = StudyTask(self.prepared, search.objectives, space, folder, races, search.private)
        remove_task(folder)  # left by a killed process
        try:
            with stopwatch.phase("starting workers"):
                self.engine.start(task, self._announce)
            yield
        finally:
            with stopwatch.phase("starting workers"):
                self.engine.close()

    def _announce(self, what: str, trial: int | None = None) -> None:
        """Show the current phase of the engine, or of a trial that it runs."""
        if self.progress is None:
            self.prepared.stopwatch.announce(what)
        else:
            self.progress.doing(what, trial)

    def _check_is_ours(self, claim: Callable[[], None]) -> None:
        """Check that this process still has the study's lock and run folder."""
        claim()
        self.search.run_folder.require(self.run)

    def _note_down(self, coordinator: Coordinator, ended: Trial | None = None) -> None:
        """Store the record of the study, and write notes after a trial or at the end of the run."""
        study = coordinator.study
        record = self._describe(study, coordinator.ended)
        self.write_notes(study.optuna_study, record, coordinator.finished.trials, ended)

    def _describe(self, study: StoredStudy, ended: str = "") -> dict[str, Any]:
        """Store the record of the study, with the reason if it ended, and return it."""
        shared = self.prepared
        now = of_run(study.space, self.heads, shared.stopwatch.snapshot())
        more = {"ended": ended, "told": self.told, "parts": shared.batch_parts}
        if self.file is not None:
            more["file"] = str(self.file.resolve())
        more["baselines"] = [one.record() for one in self.comparison.records]
        record = about(self.search, study.objectives) | now | more
        study.describe(record)
        return record

    def _tell(self, progress: StudyProgress, line: str) -> None:
        """Print a line and record it."""
        progress.tell(line)
        self._note(line)

    def _note(self, *lines: str) -> None:
        """Add new lines to the record of the study."""
        self.told += [line for line in dict.fromkeys(lines) if line not in self.told]


def prepared_for(search: SearchDeclaration) -> Prepared:
    """Return what all trials of a study share, without the calibration.

    Raises:
        BadInput: The run folder is another study's, or has files that protege did not make.
    """
    with explained(search.place):
        search.run_folder.check()  # the cache is made in it
        return Prepared(
            search.teacher,
            search.cache,
            search.distillation,
            seed=search.seed,
            answers_from=search.answers_from,
            deployment=deployment_of(search.objectives, search.judged_as),
        )


def claimed_folder(search: SearchDeclaration) -> Path:
    """Return the run folder, created and marked if needed.

    Raises:
        BadInput: It is another study's, or has files that protege did not make.
    """
    with explained(search.place):
        search.run_folder.check()
        with owner_only(search.run_folder.path, private=search.private):
            search.run_folder.claim()
    return search.run_folder.path


@contextmanager
def holding(search: SearchDeclaration) -> Iterator[Callable[[], None]]:
    """Lock a study and its folder in the block.

    Yields:
        A function that raises if the study's lock was lost.
    """
    search.run_folder.check()
    with (
        owner_only(search.run_folder.path, private=search.private),
        held(search.run_folder.path, search.name),
        claimed(search.place, search.name) as claim,
    ):
        yield claim


def _check_limit(objective: Objective, search: SearchDeclaration, prepared: Prepared) -> None:
    """Check that the smallest students meet a limit.

    Raises:
        BadInput: They do not; the message has their smallest value.
    """
    if objective.stage > Stage.ARCHITECTURE:
        claimed_folder(search)  # measurements are cached there; counts leave no files
    found = [
        (value, one)
        for one in search.students.smallest
        if (value := _value(objective, Candidate(prepared, one))) is not None
    ]
    if not found:
        return  # the trials will report the error
    value, architecture = min(found, key=lambda pair: pair[0])
    if exceeds(objective, value):
        raise BadInput(
            f"{objective.name} limit {objective.limit:g}: no student can meet it; the smallest in "
            f"the space, {architecture}, reaches {value:.4g}"
        )


def _value(objective: Objective, candidate: Candidate) -> float | None:
    """Measure a student before any trial; return None if that fails."""
    try:
        return objective.measure(candidate).value
    except Exception as error:
        if ends_study(error, of_teacher=False):
            raise
        return None
