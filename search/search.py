"""The search: teacher, space and objectives in, a front out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from protege.objectives import Candidate, Cost, Latency, Objective, Retention, Stopwatch, exceeds
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.latency import Checkpoint, compare
from protege.objectives.latency.models import Model
from protege.search.calibrating import Needs, calibrated
from protege.search.export import keep, sweep
from protege.search.front import DATABASE, Front
from protege.search.goals import Goals
from protege.search.heads import HeadScores, cuts_heads
from protege.search.lock import held
from protege.search.progress import Bar, bar
from protege.search.screening import screened
from protege.search.study import (
    Ledger,
    Study,
    database_path,
    identify,
    open_ledger,
    open_study,
)
from protege.search.trial import State, Trial, evaluate
from protege.spaces import (
    Architecture,
    BadInput,
    Cache,
    Calibration,
    ProtegeError,
    SearchSpace,
    Teacher,
)
from protege.spaces.student import kept_tokens


@dataclass
class Search:
    """A study of one teacher's students.

    Attributes:
        name: Names the study and, by default, its folder ``runs/<name>``.
        teacher: The teacher.
        space: The students that may be tried.
        objectives: What they are judged by.
        storage: An Optuna storage URL; ``sqlite:///runs/<name>/study.db`` if not given.
        folder: Where everything but the database goes; beside a SQLite database if not given.
        seed: Fixes the proposals, the order of the data and all initialisation.
        sampler: An Optuna sampler in place of the default one.
    """

    name: str
    teacher: Teacher
    space: SearchSpace
    objectives: Sequence[Objective]
    storage: str = ""
    folder: str | Path = ""
    seed: int = 0
    sampler: Any = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    _heads: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"objectives {names}: expected at least one, and none of a name twice")
        self.space = self.space.of(self.teacher, has_data=self._retention is not None)
        if self._retention is None:
            self._check_needs_no_data()
        self.storage = self.storage or f"sqlite:///runs/{self.name}/{DATABASE}"
        database = database_path(self.storage)
        beside = database.parent if database else Path("runs") / self.name
        self.folder = Path(self.folder) if self.folder else beside

    def run(self, trials: int = 40) -> Front:
        """Go on until the study has that many trials, and return its front.

        Run again, it takes up where it was: a trial that was cut short is repeated under its
        number, finished ones are not. Ctrl-C, or any other end, loses at most that one trial.

        Raises:
            BadInput: A limit cannot be met by any student, or another process runs this study.
            Mismatch: The study was made with another teacher, data, seed, space or objectives.
        """
        self.stopwatch.seconds.clear()  # of an earlier run: the study has them already
        with held(self._folder, self.name), self.stopwatch.phase("other"):
            self._check_limits()
            with bar(self.name, trials) as progress:
                self.stopwatch.announce = progress.doing
                with self.stopwatch.phase("study"):
                    ledger = self._open()
                done = ledger.trials()
                self._show(progress, done)
                while len(done) < trials and not ledger.exhausted:
                    done.append(self._next(ledger, done))
                    self._describe(ledger)
                    self._show(progress, done)
            self.stopwatch.announce = _ignore
        front = Front.read(self.storage, self.name)
        front.save()
        return front

    def confirm(self, folder: str | Path) -> dict[str, float]:
        """Measure an exported student again, from its files.

        Returns:
            Each objective's figure for the student as it lies in the folder. Of a latency the
            ``speedup`` too: student and teacher are timed in one run, and the latency is told on
            the scale of the teacher's time in the study.
        """
        loaded = Teacher.load(folder, task=self.teacher.task)
        candidate = self._candidate(self.teacher.architecture)
        kept = kept_tokens(Path(folder).expanduser())
        spelling = (
            None
            if kept is None
            else Spelling.of(self.teacher, loaded.model, loaded.tokenizer, kept)
        )
        figures: dict[str, float] = {}
        for objective in self.objectives:
            if isinstance(objective, Retention):
                module = loaded.embedder() or loaded.model
                verdict = objective.judge(module, candidate, spelling)
                figures[objective.name] = verdict.value
            elif isinstance(objective, Latency):
                models: list[Model] = [candidate.blueprint, Checkpoint.at(folder)]
                plan = objective.plan.with_samples(objective.percentile)
                own, student = compare(models, objective.workload, objective.target, plan)
                teacher = objective.measure(candidate)  # from the cache: the study's own scale
                share = student.over(own, objective.percentile)
                figures[objective.name] = share * teacher.value
                figures.setdefault("speedup", 1 / student.ratio)  # the first latency's
        return figures

    @cached_property
    def cache(self) -> Cache:
        """What outlives a trial and a run: teacher answers, calibration, latencies."""
        return Cache(self._folder / "cache")

    @cached_property
    def calibration(self) -> Calibration | None:
        """What is known of the teacher's units, from the data students learn from."""
        retention = self._retention
        if retention is None:
            return None
        with self.stopwatch.phase("calibrate"):
            learnt, needs = retention.sequences(self.teacher)[0], Needs.of(self.space)
            found = calibrated(self.teacher, learnt, needs, self.cache, self.stopwatch.announce)
            if cuts_heads(self.space, self.teacher):
                scores = [HeadScores.of(self.teacher, found, by) for by in needs.heads_by]
                self._heads = [score.record() for score in scores]
            return found

    def _check_needs_no_data(self) -> None:
        """Refuse policies that look at data where there is none.

        Raises:
            BadInput: Names them.
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
                f"{', '.join(sorted(asking))} looks at data and no objective has any: add "
                "Retention(texts), or declare layer_policy=Ends(), width_policy=First() and "
                'healing="none"'
            )

    @property
    def _retention(self) -> Retention | None:
        return next((o for o in self.objectives if isinstance(o, Retention)), None)

    @property
    def _latencies(self) -> list[Latency]:
        return [one for one in self.objectives if isinstance(one, Latency)]

    @property
    def _is_beside(self) -> bool:
        database = database_path(self.storage)
        return database is not None and database.parent.resolve() == self._folder.resolve()

    @property
    def _folder(self) -> Path:
        return Path(self.folder)

    def _next(self, ledger: Ledger, done: Sequence[Trial]) -> Trial:
        """One trial, from asking to telling; its weights are kept while it is on the front."""
        with self.stopwatch.phase("propose"):
            number, architecture = ledger.ask()
        candidate = self._candidate(architecture)
        trial = screened(number, candidate, self._latencies, done)
        trial = trial or evaluate(number, candidate, self.objectives)
        if candidate.is_teacher and trial.state is State.FAILED:
            raise ProtegeError(f"the teacher itself cannot be measured: {trial.reason}")
        with self.stopwatch.phase("store"):
            front = ledger.goals.front([*done, trial])
            if trial in front:
                keep(self._folder, number, candidate)
            ledger.tell(trial)
            sweep(self._folder, (one.number for one in front))
        return trial

    def _candidate(self, architecture: Architecture) -> Candidate:
        return Candidate(
            teacher=self.teacher,
            architecture=architecture,
            cache=self.cache,
            calibrate=lambda: self.calibration,
            seed=self.seed,
            stopwatch=self.stopwatch,
        )

    def _open(self) -> Ledger:
        """The study, known for this one before anything is measured, and caught up with."""
        goals = Goals.of(self.objectives)
        study = open_study(self.storage, self.name, goals)
        self._identify(study, goals)
        if not self.space.is_resolved:
            self.space = self.space.resolved(self.calibration)
        ledger = open_ledger(study, self.space, goals, self.seed, self.sampler)
        ledger.catch_up()
        # a process may have died between telling of a trial and sweeping after it
        sweep(self._folder, (one.number for one in ledger.goals.front(ledger.trials())))
        earlier = study.user_attrs.get("about", {})
        self._heads = self._heads or earlier.get("heads", [])
        for phase, seconds in earlier.get("seconds", {}).items():
            self.stopwatch.seconds[phase] += seconds
        self._describe(ledger)
        return ledger

    def _identify(self, study: Study, goals: Goals) -> None:
        """Refuse to go on with a study that was made with anything else."""
        data = [o.texts.fingerprint for o in self.objectives if isinstance(o, Retention)]
        identify(
            study,
            {
                "teacher": self.teacher.fingerprint,
                "data": data,
                "seed": self.seed,
                "space": self.space.declaration(),
                "objectives": [goal.declared for goal in goals.goals],
            },
        )

    def _describe(self, ledger: Ledger) -> None:
        """Record what a report needs to know of the study."""
        own = self.teacher
        ledger.study.set_user_attr(
            "about",
            {
                "name": self.name,
                # none: wherever the database is, so that a run folder can be moved
                "folder": None if self._is_beside else str(self._folder.resolve()),
                "seed": self.seed,
                "goals": [goal.record() for goal in ledger.goals.goals],
                "workloads": {one.name: asdict(one.workload) for one in self._latencies},
                "teacher": {
                    "source": own.source,
                    "fingerprint": own.fingerprint,
                    "is_hub_id": not Path(own.source).exists(),
                    "task": str(own.task),
                    "auto_class": own.task.auto_class,
                    "auto_processor": own.task.auto_processor,
                    "key": own.architecture.key(),
                    "architecture": own.architecture.fields(),
                },
                "anchors": [anchor.key() for anchor in self.space.anchors],
                "space": repr(self.space),
                "students": len(self.space),
                "heads": self._heads,
                "seconds": self.stopwatch.snapshot(),
            },
        )

    def _check_limits(self) -> None:
        """Refuse a limit that the smallest students do not meet.

        Raises:
            BadInput: Names the smallest value that was reached.
        """
        for objective in self.objectives:
            if objective.limit is None or objective.cost is Cost.MINUTES:
                continue
            smallest = [
                (objective.measure(self._candidate(a)).value, a) for a in self.space.smallest
            ]
            value, architecture = min(smallest, key=lambda pair: pair[0])
            if exceeds(objective, value):
                raise BadInput(
                    f"{objective.name} limit {objective.limit:g}: no student can meet it; the "
                    f"smallest in the space, {architecture}, reaches {value:.4g}"
                )

    def _show(self, progress: Bar, done: Sequence[Trial]) -> None:
        goals = Goals.of(self.objectives)
        key = self.teacher.architecture.key()
        teacher = next((t for t in done if t.key == key and t.state is State.COMPLETE), None)
        volume = goals.hypervolume(done, teacher) if teacher else 0.0
        progress.done(len(done), len(goals.front(done)), volume)


def _ignore(_: str) -> None:
    """Nobody watches."""
