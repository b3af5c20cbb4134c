"""One architecture on trial: what the objectives share, each part made once and only when asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from protege.objectives.distillation.spelling import Spelling
from protege.objectives.lease import working
from protege.objectives.stopwatch import Stopwatch
from protege.spaces import Architecture, Blueprint, Cache, Calibration, Student, Teacher


@dataclass
class Candidate:
    """What an objective is given to measure.

    Attributes:
        teacher: The teacher that students are cut from.
        architecture: The sizes and policies of this student.
        cache: Where results that outlive the trial are kept.
        calibrate: Gives what is known of the teacher's units; asked only where the student is made
            by it.
        seed: Fixes data order and initialisation; the same for all candidates of a study, so that
            students differ by their architecture alone.
        stopwatch: Where time spent is booked.
        checkpoint: Where its training is stored on the way, to be taken up after a kill; nowhere if
            not given.
        parts: Parts that a batch of its training is read in, at least: more where memory is short.
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
        """Class and configuration of the student."""
        return self.teacher.blueprint(self.architecture)

    @cached_property
    def student(self) -> Student:
        """The student as cut from the teacher and healed; distillation trains it in place."""
        own = self.architecture
        known = self.calibrate() if own.looks_at_data else None
        with self.stopwatch.phase("build" if own.healing == "none" else "heal"), working():
            return self.teacher.student(own, known)

    @cached_property
    def spelling(self) -> Spelling | None:
        """How the student writes its teacher's tokens; none where it has all of them."""
        student, kept = self.student, self.student.kept.vocab
        if kept is None:
            return None
        with self.stopwatch.phase("respell"):
            return Spelling.of(self.teacher, student.model, student.tokenizer, kept)

    @property
    def held_bytes(self) -> int:
        """Of its student's weights; 0 while there is no student."""
        made = vars(self).get("student")
        return made.nbytes if isinstance(made, Student) else 0

    @property
    def is_teacher(self) -> bool:
        """Whether this is the teacher itself, at ratio 1.0 in everything."""
        return self.architecture == self.teacher.architecture
