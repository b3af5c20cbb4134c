"""The candidate that objectives measure; its student is built once, on first use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from protege.objectives.distillation.spelling import Spelling
from protege.objectives.lease import shared_machine
from protege.objectives.stopwatch import Stopwatch
from protege.spaces import Architecture, Blueprint, Cache, Calibration, Student, Teacher


@dataclass
class Candidate:
    """One architecture, with everything that objectives need to measure it.

    Attributes:
        teacher: The teacher that the student is cut from.
        architecture: The sizes and policies of the student.
        cache: Cache of results that outlive the trial.
        calibrate: Returns the teacher's calibration, or None; called only if the architecture's
            policies need data.
        seed: Seed of data order and initialisation. All candidates of a study share it, so that
            students differ only by their architecture.
        stopwatch: Records the seconds of each phase.
        checkpoint: File of the training checkpoint, from which an interrupted trial resumes; None
            stores no checkpoint.
        parts: Minimum number of gradient-accumulation parts per batch; more need less memory.
    """

    teacher: Teacher
    architecture: Architecture
    cache: Cache
    calibrate: Callable[[], Calibration | None] = lambda: None
    seed: int = 0
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    checkpoint: Path | None = None
    parts: int = 1

    @cached_property
    def blueprint(self) -> Blueprint:
        """The student's model class and configuration."""
        return self.teacher.blueprint(self.architecture)

    @cached_property
    def student(self) -> Student:
        """The student, cut from the teacher and healed; distillation trains it in place."""
        own = self.architecture
        known = self.calibrate() if own.looks_at_data else None
        with self.stopwatch.phase("build" if own.healing == "none" else "heal"), shared_machine():
            return self.teacher.student(own, known)

    @cached_property
    def spelling(self) -> Spelling | None:
        """The map from teacher tokens to student tokens; None if the vocabulary is not cut."""
        student, kept = self.student, self.student.kept.vocab
        if kept is None:
            return None
        with self.stopwatch.phase("respell"):
            return Spelling.of(self.teacher, student.model, student.tokenizer, kept)

    @property
    def held_bytes(self) -> int:
        """Bytes of the student's weights; 0 until the student is built."""
        made = vars(self).get("student")
        return made.nbytes if isinstance(made, Student) else 0

    @property
    def is_teacher(self) -> bool:
        """Whether the architecture is the teacher's own."""
        return self.architecture == self.teacher.architecture
