"""Retention: how much of its teacher's quality a student has after a short distillation."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from torch import Tensor, nn

from protege.objectives.candidate import Candidate
from protege.objectives.distillation.classes import NO_LABEL, ClassLesson
from protege.objectives.distillation.distillation import Distillation, judge, remember
from protege.objectives.distillation.language import LanguageLesson
from protege.objectives.distillation.lesson import Lesson, Targets, Verdict
from protege.objectives.distillation.sentences import SentenceLesson
from protege.objectives.distillation.sequences import Sequences
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.objective import Cost, Direction, Measurement
from protege.objectives.texts import Texts
from protege.spaces import BadInput, Task, Teacher, Unsupported

_LESSONS: dict[Task, Lesson] = {
    Task.FEATURES: SentenceLesson(),
    Task.SENTENCES: SentenceLesson(),
    Task.FILL_MASK: LanguageLesson(masked=True),
    Task.GENERATION: LanguageLesson(),
    Task.TEXTS: ClassLesson(),
    Task.TOKENS: ClassLesson(per_token=True),
}

JUDGING_BATCH = 32
"""Sequences at a time where nothing is trained; small enough for a vocabulary's logits to fit."""


@dataclass(frozen=True)
class Retention:
    """Quality on held-out data after distillation, divided by the teacher's.

    Sentence encoders: mean cosine to the teacher's vectors. Language models: the teacher's
    perplexity divided by the student's. Classifiers: accuracy divided by the teacher's, or, without
    labels, agreement with it. A student with fewer tokens reads and answers the same text in its
    own spelling of it.

    Attributes:
        texts: What students learn from and are judged on; never the same texts for both.
        distillation: How they are taught.
        held_out: Sequences to judge on; at most half of the data.
        limit: The least retention a student may have.
    """

    texts: Texts = field(repr=False)
    distillation: Distillation = Distillation()
    held_out: int = 512
    limit: float | None = None

    name: ClassVar[str] = "retention"
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "maximize"
    cost: ClassVar[Cost] = Cost.MINUTES

    def measure(self, candidate: Candidate) -> Measurement:
        """Cut the candidate's student, teach it, judge it.

        The teacher itself is judged as it is: it has nothing to learn from itself.
        """
        lesson, seed = lesson_of(candidate.teacher), candidate.seed
        student = candidate.student.module
        losses: list[float] = []
        if not candidate.is_teacher and self.distillation.steps:
            sequences, targets = self.training(candidate)
            with candidate.stopwatch.phase("distil"):
                announce = candidate.stopwatch.announce
                losses = self.distillation.teach(
                    student, lesson, sequences, targets, seed, announce
                )
        verdict = self.judge(student, candidate, candidate.spelling)
        details: dict[str, float | str] = {**verdict.figures, "steps": len(losses)}
        if losses:
            details |= {"first_loss": losses[0], "last_loss": losses[-1]}
        return Measurement(verdict.value, verdict.spread, tuple(losses), details)

    def judge(
        self, module: nn.Module, candidate: Candidate, spelling: Spelling | None = None
    ) -> Verdict:
        """What a trained module retains on the held-out data of the candidate's teacher.

        Args:
            module: The student's.
            candidate: Of the teacher.
            spelling: How the student writes the teacher's tokens; none where it has all of them.
        """
        lesson = lesson_of(candidate.teacher)
        asked = self.sequences(candidate.teacher)[1]
        sequences, targets = self._questions(asked, candidate, spelling)
        with candidate.stopwatch.phase("evaluate"):
            verdict = lesson.verdict(judge(module, lesson, sequences, targets, JUDGING_BATCH))
        if spelling is not None:
            verdict.figures["pieces_per_token"] = len(sequences.ids) / len(asked.ids)
        return verdict

    def training(self, candidate: Candidate) -> tuple[Sequences, Targets]:
        """The sequences that the student learns from, with the teacher's answers to them."""
        sequences = self.sequences(candidate.teacher)[0]
        return self._questions(sequences, candidate, candidate.spelling)

    def _questions(
        self, sequences: Sequences, candidate: Candidate, spelling: Spelling | None
    ) -> tuple[Sequences, Targets]:
        """The sequences and the teacher's answers to them, as the student spells them."""
        targets = self._remembered(sequences, candidate)
        if spelling is None:
            return sequences, targets
        with candidate.stopwatch.phase("respell"):
            return lesson_of(candidate.teacher).respelt(sequences, targets, spelling)

    def _remembered(self, sequences: Sequences, candidate: Candidate) -> Targets:
        """The teacher's answers to the sequences: computed once, then read from the cache."""
        teacher = candidate.teacher
        lesson = lesson_of(teacher)
        key = {
            "teacher": teacher.fingerprint,
            "lesson": lesson.name,
            "sequences": sequences.fingerprint,
            "pooling": teacher.pooling and [teacher.pooling.mode, teacher.pooling.normalize],
        }
        with candidate.stopwatch.phase("teacher answers"):
            return candidate.cache.tensors(
                "targets", key, lambda: _answers(teacher, lesson, sequences)
            )

    def sequences(self, teacher: Teacher) -> tuple[Sequences, Sequences]:
        """What students learn from, and what they are judged on; tokenised once."""
        return _split(self, teacher)


def _answers(teacher: Teacher, lesson: Lesson, sequences: Sequences) -> dict[str, Tensor]:
    return dict(remember(teacher.embedder() or teacher.model, lesson, sequences, JUDGING_BATCH))


def lesson_of(teacher: Teacher) -> Lesson:
    """The lesson for the teacher's task.

    Raises:
        Unsupported: There is none.
    """
    if teacher.task not in _LESSONS:
        raise Unsupported(
            f"retention of a model for {teacher.task} cannot be measured; "
            f"it can for {', '.join(_LESSONS)}"
        )
    return _LESSONS[teacher.task]


@lru_cache(maxsize=4)
def _split(retention: Retention, teacher: Teacher) -> tuple[Sequences, Sequences]:
    """Sequences to learn from and sequences to be judged on, from different texts.

    No more texts are tokenised for training than its steps can draw.
    """
    texts, distillation = retention.texts, retention.distillation
    lesson, order = lesson_of(teacher), texts.order()
    half = len(order) // 2
    packed = teacher.task is Task.GENERATION
    held_out = half if packed else min(half, retention.held_out)
    learn, judged = order[: len(order) - held_out], order[len(order) - held_out :]
    if not packed and distillation.steps:
        learn = learn[: distillation.sequences_seen]
    numbers = _label_numbers(texts, teacher)
    parts = []
    for part, count in ((learn, distillation.sequences_seen), (judged, retention.held_out)):
        sequences = lesson.sequences(
            teacher,
            [texts.texts[i] for i in part],
            [numbers[i] for i in part],
            distillation.max_tokens,
        )
        parts.append(sequences.first(max(1, count)))
    return parts[0], parts[1]


def _label_numbers(texts: Texts, teacher: Teacher) -> list[int]:
    """The texts' labels as the numbers of the teacher's classes.

    Raises:
        BadInput: A label is none of the teacher's classes.
    """
    if texts.labels is None or teacher.task is not Task.TEXTS:
        return [NO_LABEL] * len(texts)
    classes: dict[str, int] = dict(teacher.config.label2id or {})  # type: ignore[arg-type]
    names: dict[int | str, int] = {number: number for number in classes.values()}
    names.update(classes)
    unknown = next((label for label in texts.labels if label not in names), None)
    if unknown is not None:
        raise BadInput(f"label {unknown!r}: the teacher's classes are {classes}")
    return [names[label] for label in texts.labels]
