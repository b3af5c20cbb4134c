"""A session: one run of a study, from its locks to its front."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from protege.objectives import Candidate, Objective
from protege.objectives.candidate import Prepared
from protege.objectives.objective import Stage, exceeds, scores_rungs
from protege.search.analysis.result import StudyResult
from protege.search.engines.engine import Engine
from protege.search.engines.local import SerialEngine
from protege.search.engines.task import Task, remove_task
from protege.search.planning.calibrating import completed, compute_outputs, head_scores
from protege.search.planning.foretelling import foretell_training, left_out
from protege.search.progress import Bar, bar
from protege.search.records.failure import ends_study, warn
from protege.search.records.goals import Goals
from protege.search.running.coordinator import Coordinator
from protege.search.running.stopping import LeavingContext, Stopping, never_leaving
from protege.search.session.about import about, of_run
from protege.search.session.comparison import Comparison
from protege.search.session.earlier import take_over
from protege.search.session.identity import Declared, identity
from protege.search.storage.claim import claimed, held
from protege.search.storage.explaining import explained, shown_storage
from protege.search.storage.format import claimed_run
from protege.search.study.artifacts import Artifacts
from protege.search.study.ledger import Ledger, identify, open_ledger, open_study, trials_of
from protege.search.study.store import Store
from protege.spaces import BadInput, SearchSpace
from protege.spaces.files.private import owner_only
from protege.spaces.students.student import check_saves

_LOG = logging.getLogger("protege")


@dataclass
class Session:
    """One run of a study.

    Attributes:
        search: The declaration.
        engine: Runs the jobs.
        earlier: Studies whose measurements are imported.
        leaving: The context of the trials, which handles requests to end the run early.
        prepared: What all trials share; without the calibration until the study is open.
        told: Lines that the study has reported, to be recorded.
        comparison: The baselines with their records.
        seconds: Seconds by phase of earlier runs of the study.
        run: The id that study and run folder share; empty until the study is open.
    """

    search: Declared
    engine: Engine = field(default_factory=SerialEngine)
    earlier: Sequence[StudyResult] = ()
    leaving: LeavingContext = never_leaving
    prepared: Prepared = field(init=False)
    told: list[str] = field(default_factory=list, init=False)
    comparison: Comparison = field(default_factory=Comparison, init=False)
    heads: list[dict[str, Any]] = field(default_factory=list, init=False)
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
                stopwatch.announce, stopwatch.tell = progress.doing, partial(self._tell, progress)
                # the inner context: neither start nor end of the engine handles signals
                with self.coordinated(claim) as coordinator, self.leaving() as leave:
                    coordinator.show(progress)
                    for _ in self.comparison.measure(search.objectives, self.prepared, leave):
                        self._describe(coordinator.ledger)
                    for trial in coordinator.go_on(stopping, leave):
                        warn(trial)
                        self._describe(coordinator.ledger)
                        coordinator.show(progress)
                self._describe(coordinator.ledger, coordinator.ended)
        if not coordinator.done:
            leave.check()  # there is no front to return
        return coordinator

    @contextmanager
    def coordinated(self, claim: Callable[[], None] = lambda: None) -> Iterator[Coordinator]:
        """Open the study and start the engine; close the engine after the block.

        Args:
            claim: Raises if the study's lock was lost.

        Yields:
            The coordinator of the study.
        """
        stopwatch, search = self.prepared.stopwatch, self.search
        with stopwatch.phase("study"):
            ledger = self._open()
            ledger.claim = partial(self._check_is_ours, claim)
        coordinator = Coordinator(
            ledger=ledger,
            prepared=self.prepared,
            objectives=search.objectives,
            folder=search.run_folder.path,
            race=search.race,
            engine=self.engine,
            artifacts=Artifacts.of(ledger.study, search.artifacts),
        )
        with self._started(ledger.space):
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
            with self.prepared.stopwatch.phase("teacher answers"):
                self.prepared.data.check()
        if search.baselines:
            claimed_folder(search)  # what is made from the teacher is cached there
            self.comparison.load(search.baselines, self.prepared)

    def _open(self) -> Ledger:
        """Open the study, check its identity, compute what all trials share, and resume."""
        search, goals = self.search, Goals.of(self.search.objectives)
        claimed_folder(search)
        study = open_study(search.place, search.name, goals)
        self.run = claimed_run(study, shown_storage(search.place))
        if search.run_folder.bind(self.run) and trials_of(study) and not search.artifacts:
            _LOG.warning(
                "protege: %s: the run folder of study %r was missing, and the weights of its "
                "students with it; the study continues without them",
                search.run_folder.path,
                search.name,
            )
        made_with = identity(search)
        identify(study, made_with)
        known = study.user_attrs.get("about", {})
        self.told = known.get("told", [])
        self.comparison.recall(known.get("baselines", ()))
        space = self._prepare(known.get("parts", 1), is_new=not study.trials)
        for front in self.earlier:
            take_over(front, study, space, goals, made_with, search.run_folder.path)
        ledger = open_ledger(study, space, goals, search.seed, search.sampler)
        ledger.catch_up()
        for phase, seconds in known.get("seconds", {}).items():
            self.prepared.stopwatch.seconds[phase] += seconds
        self._describe(ledger)
        return ledger

    def _prepare(self, parts: int, *, is_new: bool) -> SearchSpace:
        """Compute what all trials share, and return the resolved space."""
        shared, space = replace(self.prepared, batch_parts=parts), self.search.students
        if is_new and shared.distillation is not None:
            shared = replace(
                shared, batch_parts=foretell_training(shared, list(space.representatives))
            )
        self.prepared = shared = completed(shared, space)
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
        task = Task(self.prepared, search.objectives, space, folder, races, search.private)
        remove_task(folder)  # left by a killed process
        try:
            with stopwatch.phase("engine"):
                self.engine.start(task, stopwatch.announce)
            yield
        finally:
            with stopwatch.phase("engine"):
                self.engine.close()

    def _check_is_ours(self, claim: Callable[[], None]) -> None:
        """Check that this process still has the study's lock and run folder."""
        claim()
        self.search.run_folder.require(self.run)

    def _describe(self, ledger: Ledger, ended: str = "") -> None:
        """Store the record of the study, with the reason if it ended."""
        shared = self.prepared
        now = of_run(ledger.space, self.heads, shared.stopwatch.snapshot())
        more = {"ended": ended, "told": self.told, "parts": shared.batch_parts}
        more["baselines"] = [one.record() for one in self.comparison.records]
        ledger.describe(about(self.search, ledger.goals) | now | more)

    def _tell(self, progress: Bar, line: str) -> None:
        """Print a line and record it."""
        progress.tell(line)
        self._note(line)

    def _note(self, *lines: str) -> None:
        """Add new lines to the record of the study."""
        self.told += [line for line in dict.fromkeys(lines) if line not in self.told]


def prepared_for(search: Declared) -> Prepared:
    """Return what all trials of a study share, without the calibration.

    Raises:
        BadInput: The run folder is another study's, or has files that protege did not make.
    """
    with explained(search.place):
        search.run_folder.check()  # the cache is made in it
        return Prepared(search.teacher, search.cache, search.distillation, seed=search.seed)


def claimed_folder(search: Declared) -> Path:
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
def holding(search: Declared) -> Iterator[Callable[[], None]]:
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


def _check_limit(objective: Objective, search: Declared, prepared: Prepared) -> None:
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
