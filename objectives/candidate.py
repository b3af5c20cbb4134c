"""The candidate that objectives measure."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from protege.objectives.baselines.readout import FITTED_ON, fit_readout
from protege.objectives.data.examples import Examples
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.task_data import TaskData
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.task import DistillationTask, TaskScore
from protege.objectives.distillation.teacher_outputs import judge
from protege.objectives.machine.lock import shared_machine
from protege.objectives.machine.precision import Deployment
from protege.objectives.machine.stopwatch import Stopwatch
from protege.spaces import (
    Architecture,
    BadInput,
    Blueprint,
    Cache,
    Calibration,
    ProtegeError,
    Student,
    Teacher,
)
from protege.spaces.others.table import is_other


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all trials of a study share.

    Attributes:
        teacher: The model that students are cut from.
        answers_from: The model that they learn from; None if it is the same.
        cache: Cache of results that outlive a trial: teacher outputs, calibration, latencies.
        distillation: What students learn from and how; None if students are not distilled.
        calibration: What a pass over the training data tells of the teacher; None if no policy
            needs data.
        seed: Seed of data order and initialisation. All candidates of a study share it, so that
            students differ only by their architecture.
        batch_parts: Minimum number of gradient-accumulation parts per batch; more need less memory.
        stopwatch: Records the seconds of each phase.
        deployment: How finished students are run to be judged; None for float32 in PyTorch.
    """

    teacher: Teacher
    cache: Cache
    distillation: Distillation | None = None
    calibration: Calibration | None = None
    seed: int = 0
    batch_parts: int = 1
    stopwatch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    answers_from: Teacher | None = None
    deployment: Deployment | None = None
    read: dict[Hashable, TaskData] = field(default_factory=dict, repr=False)
    """Data that was read before, by content and sizes."""

    @property
    def answering(self) -> Teacher:
        """The model that students learn from and are judged by."""
        return self.answers_from or self.teacher

    @property
    def settings(self) -> Distillation:
        """The distillation, with batches in at least `batch_parts` parts.

        Raises:
            BadInput: Students are not distilled.
        """
        if self.distillation is None:
            raise BadInput("students are not distilled; give distillation=Distillation(data)")
        parts = max(self.distillation.accumulate, self.batch_parts)
        return replace(self.distillation, accumulate=parts)

    @property
    def data(self) -> TaskData:
        """The distillation's data, tokenised for the answering teacher.

        Raises:
            BadInput: Students are not distilled.
        """
        return self.data_of(self.settings.data)

    def data_of(self, examples: Examples) -> TaskData:
        """Return any data, split and tokenised as the distillation's is.

        Raises:
            Unsupported: There is no distillation for the teacher's task.
        """
        settings = self.settings
        train = settings.sequences_seen if examples == settings.data else 0
        sizes = (train, settings.selection, settings.held_out, settings.max_tokens)
        key = (examples, *sizes)
        if key not in self.read:
            task = distillation_task(self.answering)
            self.read[key] = TaskData(
                self.answering, task, self.cache, examples, *sizes, self.stopwatch.show
            )
        return self.read[key]

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes cannot read from the cache."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return own | {"calibration": None, "stopwatch": Stopwatch(), "read": {}}


class ComparedModel(Protocol):
    """A model of another origin that is measured in place of a student; see `Baseline`."""

    @property
    def architecture(self) -> Architecture:
        """Its sizes."""

    @property
    def blueprint(self) -> Blueprint:
        """Its model class and configuration."""

    @property
    def student(self) -> Student:
        """The model in the form of a student."""

    @property
    def projection_size(self) -> int:
        """Number of weights of its own sentence projection."""

    def read(self, data: TaskData, inputs: TaskInputs) -> TaskInputs:
        """Return a part of the data as this model reads it."""

    def aligned(self, data: TaskData) -> Callable[[Tensor], Tensor]:
        """Return the map from its outputs to those of the teacher."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One architecture, and its student once that is built.

    Attributes:
        prepared: What it shares with all other candidates of the study.
        architecture: The sizes and policies of the student.
        made: The student; None before it is built.
        vocabulary_map: The map from teacher tokens to student tokens; None if the vocabulary is not
            cut or the student not built.
        baseline: The model of another origin that is measured in place of a student, or None.
    """

    prepared: Prepared
    architecture: Architecture
    made: Student | None = field(default=None, repr=False)
    vocabulary_map: VocabularyMap | None = field(default=None, repr=False)
    baseline: ComparedModel | None = field(default=None, repr=False)

    @classmethod
    def of_baseline(cls, prepared: Prepared, baseline: ComparedModel) -> "Candidate":
        """Return a baseline in the form in which objectives measure students."""
        return cls(prepared, baseline.architecture, baseline.student, baseline=baseline)

    @property
    def teacher(self) -> Teacher:
        """The teacher that the student is cut from."""
        return self.prepared.teacher

    @property
    def cache(self) -> Cache:
        """Cache of results that outlive the trial."""
        return self.prepared.cache

    @property
    def stopwatch(self) -> Stopwatch:
        """Records the seconds of each phase."""
        return self.prepared.stopwatch

    @property
    def is_teacher(self) -> bool:
        """Whether the architecture is the teacher's own."""
        return self.baseline is None and self.architecture == self.teacher.architecture

    @cached_property
    def blueprint(self) -> Blueprint:
        """The student's model class and configuration."""
        if self.baseline is not None:
            return self.baseline.blueprint
        return self.teacher.blueprint(self.architecture)

    @property
    def projection_size(self) -> int:
        """Number of weights of the sentence projection, which the blueprint does not have."""
        if self.baseline is not None:
            return self.baseline.projection_size
        return self.teacher.projection_size(self.architecture)

    @property
    def student(self) -> Student:
        """The student.

        Raises:
            ProtegeError: It is not built; an objective that needs it has `Stage.STUDENT`.
        """
        if self.made is None:
            raise ProtegeError(
                "the student is not built yet; an objective that needs it has stage=Stage.STUDENT"
            )
        return self.made

    def built(self) -> "Candidate":
        """Return this candidate with its student, cut from the teacher and healed."""
        own, calibration = self.architecture, self.prepared.calibration
        known = calibration if own.looks_at_data else None
        with (
            self.stopwatch.phase("build" if own.healing == "none" else "weight reconstruction"),
            shared_machine(),
        ):
            student = self.teacher.student(own, known)
        made = self.holding(student)
        if is_other(own) and self.prepared.distillation is not None:
            made.fit_readout()
        return made

    def fit_readout(self) -> None:
        """Fit the last layer of a student of another family to the teacher's outputs."""
        data = self.prepared.data
        some = data.learnt.first(FITTED_ON)
        with self.stopwatch.phase("caching teacher outputs"):
            # all of them are needed for training, unless the teacher runs at every step
            cached = self.prepared.settings.answers == "cached"
            known = data.outputs(data.learnt if cached else some)
        targets: Targets = {name: one[: some.rows] for name, one in known.items()}
        if self.vocabulary_map is not None:
            some, targets = data.task.mapped(some, targets, self.vocabulary_map)
        with self.stopwatch.phase("build"):
            fit_readout(self.student, data.task, some, targets)

    def holding(self, student: Student) -> "Candidate":
        """Return this candidate with a student."""
        vocab = student.kept.vocab
        if vocab is None:
            return replace(self, made=student, vocabulary_map=None)
        with self.stopwatch.phase("map vocabulary"):
            found = VocabularyMap.of(self.teacher, student.model, student.tokenizer, vocab)
        return replace(self, made=student, vocabulary_map=found)

    def judged(self, data: TaskData, inputs: TaskInputs) -> tuple[TaskInputs, TaskScore]:
        """Score the student against the teacher; return its own inputs as well.

        Args:
            data: The data that the inputs are part of.
            inputs: Inputs of the teacher.
        """
        module, task, baseline = self.student.module, data.task, self.baseline
        own, targets = self.inputs_and_targets(data, inputs, task)
        aligned = () if baseline is None else (baseline.aligned(data), inputs.labels)
        with self.stopwatch.phase("evaluate"):
            return own, task.score(judge(module, task, own, targets, *aligned))

    def inputs_and_targets(
        self, data: TaskData, inputs: TaskInputs, task: DistillationTask
    ) -> tuple[TaskInputs, Targets]:
        """Return inputs and the teacher's outputs, both mapped if the vocabulary is cut."""
        with self.stopwatch.phase("caching teacher outputs"):
            targets = data.outputs(inputs, task)
        if self.baseline is not None:
            return self.baseline.read(data, inputs), targets
        if self.vocabulary_map is None:
            return inputs, targets
        with self.stopwatch.phase("map vocabulary"):
            return task.mapped(inputs, targets, self.vocabulary_map)

    def trained(self, student: Student) -> "Candidate":
        """Return this candidate with its student after some training."""
        return replace(self, made=student)
