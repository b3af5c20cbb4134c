"""`Search`, the declaration of a study, and how it is run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from protege.objectives import Candidate, Distillation, Objective, StaticEmbedding
from protege.objectives.candidate import Prepared
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.machine.precision import Deployment
from protege.objectives.measurement import Stage
from protege.objectives.objective import Checked, scores_rungs
from protege.search.analysis.fidelity import Fidelity, chosen
from protege.search.analysis.fidelity import measured as fidelity_of
from protege.search.engines.engine import Engine
from protege.search.engines.local import SerialEngine
from protege.search.front.confirming import confirmed
from protege.search.front.front import Front
from protege.search.front.publishing import RunningNotes
from protege.search.handover.exported import check_same_tokens
from protege.search.planning.calibrating import with_calibration
from protege.search.progress import watching
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import Trial
from protege.search.running.racing import Race
from protege.search.running.stopping import Stopping, StopRequestContext, no_stop_requests
from protege.search.session.deployment import deployment_of
from protege.search.session.identity import identity
from protege.search.session.session import Session, claimed_folder, holding, prepared_for
from protege.search.storage.locating import database_path, default_folder, url_of_file
from protege.search.storage.run_folder import DATABASE, RunFolder
from protege.search.storage.storage import OptunaStudy
from protege.search.study.store import check_url
from protege.search.study.study import open_study
from protege.spaces import BadInput, Cache, SearchSpace, Teacher
from protege.spaces.arguments import checks_arguments, checks_fields
from protege.spaces.files.private import owner_only
from protege.spaces.plain_text import html_table, printable


@checks_fields
@dataclass(frozen=True)
class Search:
    """The declaration of a study of one teacher's students.

    Attributes:
        name: Name of the study and, by default, of its folder ``runs/<name>``, in which unsafe
            characters are percent-encoded.
        teacher: The model that students are cut from; a folder or a hub id is loaded. It may
            itself be a student, exported or trained, whose students are smaller still.
        answers_from: The model that students learn from and are judged by, if it is not `teacher`:
            the original teacher of a student (Muralidharan et al., arXiv 2407.14679, section 4.4,
            cut in steps and keep the teacher).
        space: The search space.
        objectives: One objective, or several with distinct names.
        distillation: What students learn from and how; needed by objectives that judge distilled
            students, and by policies that need data.
        storage: An Optuna storage URL, or the path of a SQLite file, which several studies may
            share; by default ``study.db`` in the run folder.
        folder: The run folder, for everything except the database; by default ``runs/<name>``
            beside the database, or in the working directory if the database is on a server. It
            must be new or empty, and then belongs to this study alone.
        baselines: Models of another origin to compare students with: folders or hub ids of
            checkpoints for the teacher's task, and a `StaticEmbedding`. They are measured by the
            same objectives and are no trials; see docs/objectives.md. They may be changed when a
            study is resumed.
        seed: Seed of proposals, data order and initialisation.
        sampler: An Optuna sampler in place of the default one.
        race: The rule that stops candidates at rungs, or None to train all of them to the end.
        earlier: Runs with the same teacher, data and objectives, but other spaces or limits. Their
            measurements of members of this space are imported as trials.
        artifacts: A store such as ``s3://bucket/prefix`` that the weights of the front are uploaded
            to, in addition to the run folder.
        private: Whether files of the run are readable by their owner only (modes 0600 and 0700).
            False leaves the modes to the umask.
        judged_as: How finished students are judged by `Retention` and scores. By default as the
            one target runs them that names another precision than float32, through the same
            runtime; ``"float32"`` judges all in PyTorch. See docs/objectives.md.

    Raises:
        BadInput: The parts of the declaration do not fit together.
        Unsupported: An objective cannot be measured on students of this teacher.
    """

    name: str
    teacher: Teacher
    space: SearchSpace
    objectives: Sequence[Objective]
    distillation: Distillation | None = None
    baselines: Sequence[str | Path | StaticEmbedding] = ()
    storage: str | Path = field(default="", repr=False)  # it may hold a password
    folder: str | Path = ""
    seed: int = 0
    sampler: Any = None
    race: Race | None = field(default_factory=Race)
    earlier: Sequence[str | Path] = field(default=(), repr=False)  # storages as well
    artifacts: str = ""
    private: bool = True
    answers_from: Teacher | None = None
    judged_as: Deployment | str | None = None

    def __post_init__(self) -> None:
        self._read_declared()
        if not self.name or not self.name.isprintable():
            raise BadInput(f"name={self.name!r}: expected one or more printable characters")
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) < len(names):
            raise BadInput(
                f"objectives {names}: expected one or more with distinct names; label= sets two of "
                "a kind apart"
            )
        self._check_distillation()
        deployment_of(self.objectives, self.judged_as)
        for objective in self.objectives:
            if isinstance(objective, Checked):
                objective.check(self.teacher)
        _ = self.students
        self._check_answers()
        if self.artifacts:
            check_url(self.artifacts)

    def __repr__(self) -> str:
        names = ", ".join(objective.name for objective in self.objectives)
        return f"<Search {printable(self.name)!r}: {self.teacher!r}, objectives {names}>"

    def _repr_html_(self) -> str:
        parts = {
            "teacher": f"{self.teacher.source}: {self.teacher.architecture}",
            "space": f"{len(self.students):,} students",
            "objectives": ", ".join(objective.name for objective in self.objectives),
            "distillation": self.distillation or "none",
            "run folder": self.run_folder.path,
            "seed": self.seed,
        }
        rows = [{"": name, "value": value} for name, value in parts.items()]
        return html_table(rows, f"Search {self.name}")

    @checks_arguments
    def run(
        self,
        trials: int = 40,
        *,
        minutes: float | None = None,
        patience: int | None = None,
        engine: Engine | None = None,
        stop_requests: StopRequestContext = no_stop_requests,
        file: Path | None = None,
    ) -> Front:
        """Run or resume the study until it has that many trials, and return its front.

        An interrupted trial is repeated under its number; finished ones are not. An exception such
        as Ctrl-C loses at most the training since the last checkpoint.

        Args:
            trials: Total number of trials, including those of earlier runs.
            minutes: Minutes after which no trial begins.
            patience: End after so many consecutive trials without a gain in hypervolume.
            engine: Runs the jobs; by default one after another in this process.
            stop_requests: Context of the trials, which may end the run after the running ones; the
                command line's, `stopping.stop_requests`, handles Ctrl-C, SIGTERM and SIGHUP. By
                default no signal is handled.
            file: The study file that declares this search, recorded for ``protege confirm`` and
                ``protege train``.

        Raises:
            BadInput: No student can meet a limit, another process runs this study, the artifact
                store cannot be used, or the run ended before any trial did.
            Mismatch: The study was made with another teacher, data, seed, space or objectives.
        """
        if engine is not None and not hasattr(engine, "submit"):
            raise BadInput(f"engine={engine!r}: expected an engine, such as LocalEngine(jobs=2)")
        stopping = Stopping(trials, minutes, patience)
        earlier = [Front.read(run) for run in self.earlier]
        notes = RunningNotes(self._result)
        session = Session(self, engine or SerialEngine(), earlier, stop_requests, notes.write, file)
        session.go_on(stopping)
        front = replace(Front.read(self.place, self.name), declared=self)
        front.save()
        return front

    @property
    def study(self) -> OptunaStudy:
        """The Optuna study; created if it does not exist."""
        claimed_folder(self)
        return open_study(self.place, self.name, ObjectiveRecords.of(self.objectives))

    def prepare(self) -> Prepared:
        """Return what all trials share, computed or read from the cache."""
        claimed_folder(self)
        return with_calibration(prepared_for(self), self.students)

    def confirm(self, folder: str | Path) -> dict[str, float]:
        """Measure an exported student from its files; see `confirming.confirmed`."""
        claimed_folder(self)  # measurements are cached there
        own = Candidate(prepared_for(self), self.teacher.architecture)
        return confirmed(self.objectives, own, Path(folder).expanduser())

    def fidelity(self, sample: int = 16, times: float = 8) -> Fidelity:
        """Measure whether the study's distillation ranks students as a longer one does.

        Args:
            sample: Number of students to train for longer, half of them from the front.
            times: Length of the longer distillation, relative to the study's.

        Raises:
            BadInput: The study has too few trained students, or trains none.
        """
        judges = [one for one in self.objectives if scores_rungs(one)]
        if not judges:
            raise BadInput("none of the objectives judges students at rungs: nothing to check")
        front = Front.read(self.place, self.name)
        trials = chosen(front.trials, front.objectives, sample)
        with holding(self), watching("fidelity") as announce:
            shared = replace(self.prepare(), batch_parts=front.about.get("parts", 1))
            space = self.students.resolved(shared.calibration)
            made = {one.number: Candidate(shared, space.by_key[one.key]) for one in trials}
            late = [one for one in self.objectives if one.stage is Stage.STUDENT]
            return fidelity_of(judges[:1], made, self.run_folder.path, times, announce, late)

    def _read_declared(self) -> None:
        """Load a teacher that is named, and turn a single objective into a list.

        Raises:
            BadInput: A part is of another kind.
        """
        parts: dict[str, Any] = vars(self)
        for name in ("teacher", "answers_from"):
            if isinstance(parts[name], str | Path):
                object.__setattr__(self, name, Teacher.load(parts[name]))
        if isinstance(parts["baselines"], str | Path | StaticEmbedding):
            object.__setattr__(self, "baselines", [parts["baselines"]])
        given = parts["objectives"]
        is_list = isinstance(given, Iterable) and not isinstance(given, str)
        several = list(given) if is_list else [given]
        object.__setattr__(self, "objectives", several)
        for one in several:
            if isinstance(one, type) or not hasattr(one, "measure"):
                named = one.__name__ if isinstance(one, type) else repr(one)
                raise BadInput(
                    f"objectives: {named} is no objective; give objects, such as "
                    "[Latency(LocalCPU()), Retention()]"
                )
        expected = {
            "teacher": (Teacher, "a Teacher, a folder or a hub id"),
            "answers_from": (Teacher | None, "a Teacher, a folder, a hub id or None"),
            "space": (SearchSpace, "a SearchSpace, such as SearchSpace(layers=Range(0.3, 1.0))"),
            "distillation": (Distillation | None, "Distillation(texts) or None"),
            "race": (Race | None, "Race() or None"),
            "earlier": (list | tuple, "a list of runs, such as ['runs/first']"),
        }
        for name, (kind, words) in expected.items():
            if not isinstance(parts[name], kind):
                raise BadInput(f"{name}={_short(parts[name])}: expected {words}")

    @cached_property
    def students(self) -> SearchSpace:
        """The search space, bound to the teacher."""
        return self.space.of(self.teacher, has_data=self.distillation is not None)

    @cached_property
    def run_folder(self) -> RunFolder:
        """The run folder."""
        own = Path(self.folder).expanduser() if self.folder else None
        database = database_path(self.place)
        return RunFolder(own or default_folder(self.name, database), self.name, database)

    @cached_property
    def place(self) -> str | Path:
        """The storage, given or by default."""
        own = Path(self.folder).expanduser() if self.folder else default_folder(self.name, None)
        return self.storage or url_of_file(own / DATABASE)

    @cached_property
    def cache(self) -> Cache:
        """The cache of teacher outputs, calibration and latencies, shared by trials and runs."""
        with owner_only(self.run_folder.path, private=self.private):  # created before any run
            return Cache(self.run_folder.path / "cache")

    def _result(self, about: Mapping[str, Any], trials: Sequence[Trial]) -> Front:
        """Return the result of a run that may not have ended."""
        objectives = ObjectiveRecords.of(self.objectives)
        found = (self.name, self.run_folder.path, objectives, tuple(trials), about, identity(self))
        return Front(*found, database=self.run_folder.database)

    def _check_answers(self) -> None:
        """Check that `answers_from` can answer what students of the teacher are asked.

        Raises:
            BadInput: It has another task or other outputs, or a loss needs its layers.
            Mismatch: It reads other tokens.
        """
        asked = self.answers_from
        if asked is None:
            return
        if (asked.task, asked.outputs) != (self.teacher.task, self.teacher.outputs):
            raise BadInput(
                f"answers_from {asked.source}: {asked.task} with {asked.outputs} outputs; expected "
                f"{self.teacher.task} with {self.teacher.outputs}, as {self.teacher.source}"
            )
        check_same_tokens(self.teacher, asked)
        if self.distillation and self.distillation.hidden_losses:
            raise BadInput(
                "answers_from with losses on hidden states or attention: layers of a student of a "
                "student are not matched with those of the first teacher; leave out one of the two"
            )

    def _check_distillation(self) -> None:
        """Check that there is a distillation exactly if something needs it."""
        late = [one.name for one in self.objectives if one.stage is Stage.STUDENT]
        if self.distillation is not None:
            distillation_task(self.teacher)
            if not late:
                raise BadInput(
                    "distillation without an objective that judges students: add Retention()"
                )
            return
        if late:
            raise BadInput(
                f"{', '.join(late)} without a distillation: give "
                "Search(distillation=Distillation(texts))"
            )
        self._check_needs_no_data()

    def _check_needs_no_data(self) -> None:
        """Check that no policy needs data.

        Raises:
            BadInput: A policy needs data.
        """
        asking = {
            f"{kind.replace('_', ' ')} {policy.name!r}"
            for member in self.students.representatives
            for kind in ("layer_policy", "width_policy")
            if (policy := getattr(member, kind)).needs_calibration
        }
        asking |= {
            f"healing {one.healing!r}"
            for one in self.students.representatives
            if one.healing != "none"
        }
        if asking:
            raise BadInput(
                f"{', '.join(sorted(asking))} needs data and there is none: give "
                "Search(distillation=Distillation(texts)) with Retention(), or declare "
                'layer_policy=Ends(), width_policy=First() and healing="none"'
            )


def _short(value: object) -> str:
    """Return the repr of a value, cut if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}\u2026"
