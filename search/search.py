"""`Search`, the declaration of a study, and how it is run."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from protege.objectives import (
    Candidate,
    Cost,
    Energy,
    Latency,
    Objective,
    PeakMemory,
    Retention,
    Stopwatch,
    Trained,
    exceeds,
)
from protege.objectives.latency.models import check_fits
from protege.objectives.retention import lesson_of
from protege.search.about import about, identity
from protege.search.analysis.fidelity import Fidelity, chosen
from protege.search.analysis.fidelity import measured as fidelity_of
from protege.search.earlier import take_over
from protege.search.engines.engine import Engine
from protege.search.engines.serial import SerialEngine
from protege.search.engines.task import Task, remove_task
from protege.search.front.confirming import confirmed
from protege.search.front.front import Front
from protege.search.planning.calibrating import calibrated
from protege.search.planning.foretelling import foretell_training, left_out
from protege.search.planning.needs import Needs, cuts_heads
from protege.search.progress import Bar, bar, watching
from protege.search.records.failure import ends_study, warn
from protege.search.records.goals import Goals
from protege.search.records.heads import HeadScores
from protege.search.running.coordinator import Coordinator
from protege.search.running.racing import Race
from protege.search.running.stopping import Stopping, leaving
from protege.search.storage.claim import claimed, held
from protege.search.storage.explaining import explained, shown_storage
from protege.search.storage.format import claimed_run
from protege.search.storage.locating import database_path, url_of_file
from protege.search.storage.run_folder import DATABASE, RunFolder, default_folder
from protege.search.study.artifacts import Artifacts
from protege.search.study.ledger import Ledger, identify, open_ledger, open_study, trials_of
from protege.search.study.store import Store, check_url
from protege.spaces import (
    Architecture,
    BadInput,
    Cache,
    Calibration,
    SearchSpace,
    Teacher,
)
from protege.spaces.files.private import owner_only
from protege.spaces.students.saving import check_saves

_LOG = logging.getLogger("protege")


@dataclass
class Search:
    """A study of one teacher's students.

    Attributes:
        name: Name of the study and, by default, of its folder ``runs/<name>``, in which unsafe
            characters are percent-encoded.
        teacher: The teacher.
        space: The search space.
        objectives: One or more objectives with distinct names.
        storage: An Optuna storage URL, or the path of a SQLite file, which several studies may
            share; by default ``study.db`` in the run folder.
        folder: The run folder, for everything except the database; by default ``runs/<name>``
            beside the database, or in the working directory if the database is on a server. It
            must be new or empty, and then belongs to this study alone.
        seed: Seed of proposals, data order and initialisation.
        sampler: An Optuna sampler in place of the default one.
        race: The rule that stops candidates at rungs, or None to train all of them to the end.
        earlier: Runs with the same teacher, data and objectives, but other spaces or limits. Their
            measurements of members of this space are imported as trials.
        artifacts: A store such as ``s3://bucket/prefix`` that the weights of the front are uploaded
            to, in addition to the run folder.
        private: Whether files of the run are readable by their owner only (modes 0600 and 0700).
            False leaves the modes to the umask.
        stopwatch: Counts seconds by phase.
    """

    name: str
    teacher: Teacher
    space: SearchSpace
    objectives: Sequence[Objective]
    storage: str | Path = field(default="", repr=False)  # it may hold a password
    folder: str | Path = ""
    seed: int = 0
    sampler: Any = None
    race: Race | None = field(default_factory=Race)
    earlier: Sequence[str | Path] = field(default=(), repr=False)  # storages as well
    artifacts: str = ""
    private: bool = True
    stopwatch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    _heads: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _database: Path | None = field(default=None, init=False, repr=False)
    """The database file, or None for a server."""
    _run: str = field(default="", init=False, repr=False)
    """The id that study and run folder share, once the study is open."""
    _told: list[str] = field(default_factory=list, init=False, repr=False)
    _parts: int = field(default=1, init=False, repr=False)
    """Minimum number of parts per batch, raised if memory is short."""

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise BadInput(f"name={self.name!r}: expected one or more printable characters")
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            raise BadInput(
                f"objectives {names}: expected one or more with distinct names; label= sets two of "
                "a kind apart"
            )
        self._check_teacher()
        self.space = self.space.of(self.teacher, has_data=self.retention is not None)
        if self.retention is None:
            self._check_needs_no_data()
        if self.artifacts:
            check_url(self.artifacts)
        own = Path(self.folder).expanduser() if self.folder else default_folder(self.name, None)
        self.storage = self.storage or url_of_file(own / DATABASE)
        self._database = database_path(self.storage)
        self.folder = own if self.folder else default_folder(self.name, self._database)

    def run(
        self,
        trials: int = 40,
        *,
        minutes: float | None = None,
        patience: int | None = None,
        engine: Engine | None = None,
    ) -> Front:
        """Run or resume the study until it has that many trials, and return its front.

        An interrupted trial is repeated under its number; finished ones are not. Ctrl-C ends the
        run after the running trials, SIGTERM and SIGHUP do so within a few seconds
        (`stopping.leaving`). A second Ctrl-C or a crash loses at most the training since the last
        checkpoint.

        Args:
            trials: Total number of trials, including those of earlier runs.
            minutes: Minutes after which no trial begins.
            patience: End after so many consecutive trials without a gain in hypervolume.
            engine: Runs the jobs; by default one after another in this process.

        Raises:
            BadInput: No student can meet a limit, another process runs this study, or the
                artifact store cannot be used.
            Mismatch: The study was made with another teacher, data, seed, space or objectives.
        """
        stopping = Stopping(trials, minutes, patience)
        self.stopwatch.seconds.clear()  # the study has stored those of earlier runs
        with (
            explained(self.storage),
            self._holding() as claim,
            self.stopwatch.phase("other"),
        ):
            if self.artifacts:
                Store.at(self.artifacts).check()
            check_saves(self.teacher, min(one.vocab_size for one in self.space))
            self._check_limits()
            if self.retention is not None:
                self.retention.check(self.candidate(self.teacher.architecture))
            with bar(self.name, trials) as progress:
                self.stopwatch.announce = progress.doing
                self.stopwatch.tell = partial(self._tell, progress)
                with self.stopwatch.phase("study"):
                    ledger = self._open()
                    ledger.claim = partial(self._check_is_ours, claim)
                coordinator = self._coordinator(ledger, engine or SerialEngine())
                coordinator.show(progress)
                # innermost: neither start nor end of the engine handles signals
                with self._started(coordinator.engine), leaving() as leave:
                    for trial in coordinator.go_on(stopping, leave):
                        warn(trial)
                        self._describe(ledger)
                        coordinator.show(progress)
                self._describe(ledger, coordinator.ended)
            self.stopwatch.announce = self.stopwatch.tell = _ignore
        if not coordinator.done:
            leave.check()  # no front to return
        front = Front.read(self.storage, self.name)
        front.save()
        return front

    def _owned(self) -> AbstractContextManager[None]:
        return owner_only(self._folder, private=self.private)

    def confirm(self, folder: str | Path) -> dict[str, float]:
        """Measure an exported student from its files; see `confirming.confirmed`."""
        own = self.candidate(self.teacher.architecture)
        return confirmed(self.objectives, own, Path(folder).expanduser())

    def fidelity(self, sample: int = 16, times: float = 8) -> Fidelity:
        """Measure whether the study's distillation ranks students as a longer one does.

        Args:
            sample: Number of students to train for longer, half of them from the front.
            times: Length of the longer distillation, relative to the study's.

        Raises:
            BadInput: The study has too few trained students, or no objective trains any.
        """
        retention = self.retention
        if retention is None:
            raise BadInput("none of the objectives trains students: there is nothing to check")
        front = Front.read(self.storage, self.name)
        self._parts = front.about.get("parts", 1)
        self.resolve()
        trials = chosen(front.trials, front.goals, sample)
        with self._holding(), watching("fidelity") as announce:
            made = [(one.number, partial(self._anew, one.key)) for one in trials]
            return fidelity_of(retention, made, self._folder, times, announce)

    @cached_property
    def cache(self) -> Cache:
        """The cache of teacher outputs, calibration and latencies, shared by trials and runs."""
        with self._owned():  # it may be created before any run
            return Cache(self._folder / "cache")

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of the teacher on the training data, or None without data."""
        retention = self.retention
        if retention is None:
            return None
        self.claimed_folder()
        with self.stopwatch.phase("calibrate"):
            needs = Needs.of(self.space, self.teacher.architecture)
            learnt = retention.parts(self.teacher).learnt
            found = calibrated(self.teacher, learnt, needs, self.cache, self.stopwatch)
            self._note(*map(left_out, found.stand_ins))
            if cuts_heads(self.space, self.teacher):
                scores = [HeadScores.of(self.teacher, found, by) for by in needs.heads_by]
                self._heads = [score.record() for score in scores]
            return found

    def _check_teacher(self) -> None:
        """Check that the objectives can be measured on students of this teacher.

        Raises:
            BadInput: A workload has more tokens than the teacher has positions, or new tokens for
                a model that generates none.
            Unsupported: The quality of the teacher's students cannot be judged.
        """
        if self.retention is not None:
            lesson_of(self.teacher)
        for objective in self.objectives:
            if isinstance(objective, Latency | PeakMemory | Energy):
                own = self.teacher.blueprint(self.teacher.architecture)
                check_fits(own, objective.workload)

    def _check_needs_no_data(self) -> None:
        """Check that no policy needs data, if no objective has any.

        Raises:
            BadInput: A policy needs data.
        """
        asking = {
            f"{kind.replace('_', ' ')} {policy.name!r}"
            for member in self.space
            for kind in ("layer_policy", "width_policy")
            if (policy := getattr(member, kind)).needs_calibration
        }
        asking |= {f"healing {m.healing!r}" for m in self.space if m.healing != "none"}
        if asking:
            raise BadInput(
                f"{', '.join(sorted(asking))} needs data and no objective has any: add "
                "Retention(texts), or declare layer_policy=Ends(), width_policy=First() and "
                'healing="none"'
            )

    @property
    def retention(self) -> Retention | None:
        """The objective that trains students, or None."""
        return next((o for o in self.objectives if isinstance(o, Retention)), None)

    @property
    def _folder(self) -> Path:
        return Path(self.folder)

    @property
    def _run_folder(self) -> RunFolder:
        return RunFolder(self._folder, self.name, self._database)

    def claimed_folder(self) -> Path:
        """Return the run folder, created and marked if needed.

        Raises:
            BadInput: It is another study's, or has files that protege did not make.
        """
        with explained(self.storage):
            self._run_folder.check()
            with self._owned():
                self._run_folder.claim()
        return self._folder

    @contextmanager
    def _holding(self) -> Iterator[Callable[[], None]]:
        """Lock the study and its folder in the block.

        Yields:
            A function that raises if the study's lock was lost.
        """
        self._run_folder.check()
        with (
            self._owned(),
            held(self._folder, self.name),
            claimed(self.storage, self.name) as claim,
        ):
            yield claim

    def _check_is_ours(self, claim: Callable[[], None]) -> None:
        """Check that this process still has the study's lock and run folder."""
        claim()
        self._run_folder.require(self._run)

    @contextmanager
    def _started(self, engine: Engine) -> Iterator[None]:
        """Start the engine for this study's jobs, and close it after the block."""
        if not isinstance(engine, SerialEngine) and any(one.looks_at_data for one in self.space):
            _ = self.calibration  # once, before workers need it
        own = copy(self)  # sent to workers, without what only the study needs
        own.sampler, own.earlier, own.stopwatch = None, (), Stopwatch()
        own.storage = own.artifacts = ""  # may hold passwords, which must not be written to a file
        task = Task(
            own.candidate, self.objectives, self.space, self._folder, self._races, self.private
        )
        remove_task(self._folder)  # left by a killed process
        try:
            with self.stopwatch.phase("engine"):
                engine.start(task, self.stopwatch.announce)
            yield
        finally:
            with self.stopwatch.phase("engine"):
                engine.close()
        if cuts_heads(self.space, self.teacher):
            _ = self.calibration  # for the report, from the cache

    @property
    def _races(self) -> bool:
        """Whether candidates halt at rungs."""
        return self.race is not None and any(isinstance(one, Trained) for one in self.objectives)

    def _coordinator(self, ledger: Ledger, engine: Engine) -> Coordinator:
        return Coordinator(
            ledger=ledger,
            candidate=self.candidate,
            objectives=self.objectives,
            folder=self._folder,
            race=self.race,
            stopwatch=self.stopwatch,
            engine=engine,
            artifacts=Artifacts.of(ledger.study, self.artifacts),
        )

    def resolve(self) -> None:
        """Resolve policies that depend on data, if any."""
        if not self.space.is_resolved:
            self.space = self.space.resolved(self.calibration)

    def _anew(self, key: str) -> Candidate:
        """Return the member with a key as a candidate with its own stopwatch."""
        return replace(self.candidate(self.space.by_key[key]), stopwatch=Stopwatch())

    def candidate(self, architecture: Architecture) -> Candidate:
        """Return the candidate of an architecture."""
        self.claimed_folder()  # its measurements are cached there
        return self._candidate(architecture)

    def _candidate(self, architecture: Architecture) -> Candidate:
        return Candidate(
            teacher=self.teacher,
            architecture=architecture,
            cache=self.cache,
            calibrate=lambda: self.calibration,
            seed=self.seed,
            stopwatch=self.stopwatch,
            parts=self._parts,
        )

    def _open(self) -> Ledger:
        """Open the study, check its identity, import earlier runs, and resume its record."""
        goals = Goals.of(self.objectives)
        self.claimed_folder()
        study = open_study(self.storage, self.name, goals)
        self._run = claimed_run(study, shown_storage(self.storage))
        if self._run_folder.bind(self._run) and trials_of(study) and not self.artifacts:
            _LOG.warning(
                "protege: %s: the run folder of study %r was missing, and the weights of its "
                "students with it; the study continues without them",
                self._folder,
                self.name,
            )
        made_with = identity(self, goals)
        identify(study, made_with)
        known = study.user_attrs.get("about", {})
        self._told, self._parts = known.get("told", []), known.get("parts", 1)
        if self.retention is not None and not study.trials:
            members, tell = list(self.space.members), self.stopwatch.tell
            self._parts = foretell_training(
                self.teacher, self.retention, members, self.cache.folder, tell
            )
        self.resolve()
        for run in self.earlier:
            take_over(run, study, self.space, goals, made_with, self._folder)
        ledger = open_ledger(study, self.space, goals, self.seed, self.sampler)
        ledger.catch_up()
        self._heads = self._heads or known.get("heads", [])
        for phase, seconds in known.get("seconds", {}).items():
            self.stopwatch.seconds[phase] += seconds
        self._describe(ledger)
        return ledger

    def _describe(self, ledger: Ledger, ended: str = "") -> None:
        """Store the record of the study, with the reason if it ended."""
        more = {"ended": ended, "told": self._told, "parts": self._parts}
        ledger.describe(about(self, ledger.goals, self._heads) | more)

    def _tell(self, progress: Bar, line: str) -> None:
        """Print a line and record it."""
        progress.tell(line)
        self._note(line)

    def _note(self, *lines: str) -> None:
        """Add new lines to the record of the study."""
        self._told += [line for line in dict.fromkeys(lines) if line not in self._told]

    def _check_limits(self) -> None:
        """Check that the smallest students meet the limits.

        Raises:
            BadInput: They do not; the message has their smallest value.
        """
        for objective in self.objectives:
            if objective.limit is None or objective.cost is Cost.MINUTES:
                continue
            smallest = [pair for a in self.space.smallest for pair in self._value(objective, a)]
            if not smallest:
                continue  # the trials will report the error
            value, architecture = min(smallest, key=lambda pair: pair[0])
            if exceeds(objective, value):
                raise BadInput(
                    f"{objective.name} limit {objective.limit:g}: no student can meet it; the "
                    f"smallest in the space, {architecture}, reaches {value:.4g}"
                )

    def _value(
        self, objective: Objective, architecture: Architecture
    ) -> list[tuple[float, Architecture]]:
        """Measure a student before any trial; return an empty list if that fails."""
        # counts need no cache, so a violated limit leaves no files
        make = self.candidate if objective.cost is Cost.SECONDS else self._candidate
        try:
            return [(objective.measure(make(architecture)).value, architecture)]
        except Exception as error:
            if ends_study(error, of_teacher=False):
                raise
            return []


def _ignore(_: str) -> None:
    """Ignore a progress message."""
