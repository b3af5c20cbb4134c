"""Retention: how much of its teacher's quality a student has after a short distillation."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import ClassVar

from torch import nn

from protege.objectives.bootstrap import interval
from protege.objectives.candidate import Candidate
from protege.objectives.data.example import Example
from protege.objectives.data.examples import Examples
from protege.objectives.data.split import Split
from protege.objectives.distillation.best import Best
from protege.objectives.distillation.checkpoint import Checkpoint
from protege.objectives.distillation.classes import ClassLesson
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.labels import check_known, renamed
from protege.objectives.distillation.language import LanguageLesson
from protege.objectives.distillation.lesson import Lesson, Targets, Verdict
from protege.objectives.distillation.losses import NO_LABEL
from protege.objectives.distillation.pairs import PairLesson
from protege.objectives.distillation.pictures import PictureLesson, Pictures
from protege.objectives.distillation.progressive import shrinking
from protege.objectives.distillation.questions import Questions
from protege.objectives.distillation.remembering import (
    Answers,
    Online,
    Remembered,
    judge,
    remembered,
)
from protege.objectives.distillation.sentences import SentenceLesson
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.distillation.tokens import TokenLesson
from protege.objectives.distillation.training import Training
from protege.objectives.measurement import Cost, Direction, Measurement, Rung
from protege.spaces import ProtegeError, Task, Teacher, Unsupported
from protege.spaces.checkpoints.tasks import unjudged
from protege.spaces.files.hashing import canonical

_LESSONS: dict[Task, Lesson] = {
    Task.FEATURES: SentenceLesson(),
    Task.SENTENCES: SentenceLesson(),
    Task.FILL_MASK: LanguageLesson(masked=True),
    Task.GENERATION: LanguageLesson(),
    Task.TEXTS: ClassLesson(),
    Task.TOKENS: TokenLesson(),
    Task.TEXT_TO_TEXT: PairLesson(),
    Task.IMAGES: PictureLesson(),
}

CALIBRATING = 512
"""Sequences that are there to be looked at where nothing is trained."""

STORED = 9
"""Parts of a training of which a process that is killed loses but the last, if it is worth it."""


@dataclass(frozen=True)
class Retention:
    """Quality after distillation on examples not learnt from, divided by the teacher's.

    Sentence encoders: mean cosine to the teacher's vectors. Language models, also those that write
    an answer to a text: the teacher's perplexity divided by the student's. Classifiers of texts, of
    tokens and of images: accuracy divided by the teacher's, or, without labels, agreement with it.
    A student with fewer tokens reads and answers the same text in its own spelling of it.

    The data is split by content in three parts that share no example, whatever the order of the
    file and however often an example is in it: students learn from one, the search judges on the
    second, and the third is for the chosen ones, which no search has seen (`Search.confirm`).

    Attributes:
        data: What students learn from and are judged on.
        distillation: How they are taught.
        selection: Sequences that the search judges on; at most a quarter of the data.
        held_out: Sequences that it never sees; at most a quarter of the data.
        limit: The least retention a student may have.
    """

    data: Examples = field(repr=False)
    distillation: Distillation = Distillation()
    selection: int = 512
    held_out: int = 512
    limit: float | None = None

    name: ClassVar[str] = "retention"
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "maximize"
    cost: ClassVar[Cost] = Cost.MINUTES

    def measure(self, candidate: Candidate) -> Measurement:
        """Cut the candidate's student, distil it, and return its best rung's measurement.

        The candidate's student then has the weights of that rung. Its first rung is the student as
        cut and healed, so that no distillation publishes a student worse than its start.
        """
        *_, last = self.rungs(candidate)
        return last.published

    def rungs(self, candidate: Candidate) -> Iterator[Rung]:
        """Yield the student's measurement at each rung of its training.

        Closing the iterator ends the training. After the last rung the candidate's student has the
        weights of its best rung. The teacher is not trained: each of its rungs is the same.
        """
        return self._rungs(candidate)

    def judge(
        self,
        module: nn.Module,
        candidate: Candidate,
        spelling: Spelling | None = None,
        *,
        held_out: bool = False,
    ) -> Verdict:
        """What a trained module retains on data of the candidate's teacher.

        Args:
            module: The student's.
            candidate: Of the teacher.
            spelling: How the student writes the teacher's tokens; none where it has all of them.
            held_out: Whether on the examples that no search has seen.
        """
        lesson, parts = lesson_of(candidate.teacher), self.parts(candidate.teacher)
        asked = parts.held_out if held_out else parts.selection
        targets = self._remembered(asked, candidate, lesson)
        if not held_out:
            self._check_labels(asked, candidate, lesson)
        questions, answers = _respelt(asked, targets, candidate, lesson, spelling)
        with candidate.stopwatch.phase("evaluate"):
            verdict = lesson.verdict(judge(module, lesson, questions, answers))
        if spelling is not None:
            verdict.figures["pieces_per_token"] = float(
                questions.lengths.sum() / asked.lengths.sum()
            )
        return verdict

    def training(self, candidate: Candidate) -> Training:
        """The candidate's student, ready to be taught."""
        teacher, settings = candidate.teacher, self.distillation
        settings = replace(settings, accumulate=max(settings.accumulate, candidate.parts))
        lesson, asked = settings.tuned(lesson_of(teacher)), self.parts(teacher).learnt
        start = candidate.student
        deeper = settings.progressive and shrinking(
            teacher,
            candidate.architecture,
            candidate.calibrate() if candidate.architecture.looks_at_data else None,
            settings.progressive,
            candidate.stopwatch,
        )
        if deeper:
            candidate.student = deeper.student
        answers: Answers
        if settings.answers == "online" or settings.looks_inside:
            if candidate.spelling is not None:
                raise Unsupported(
                    "a student with fewer tokens and a teacher that answers online: they read "
                    'different tokens; give answers="cached" and no losses that look inside'
                )
            answers = Online(teacher.embedder() or teacher.model, lesson, asked.labels)
        else:
            targets = self._remembered(asked, candidate, lesson)
            asked, targets = _respelt(asked, targets, candidate, lesson, candidate.spelling)
            answers = Remembered.of(asked, targets)
        training = Training(
            settings=settings,
            student=candidate.student,
            lesson=lesson,
            questions=asked,
            answers=answers,
            teacher=teacher,
            shrinking=deeper or None,
            seed=candidate.seed,
            announce=candidate.stopwatch.show,
        )
        if settings.full_rate_at != 0:
            rate = settings.rate(training.distance(start), lesson)
            training.settings = replace(settings, learning_rate=rate)
        return training

    def check(self, own: Candidate) -> None:
        """Refuse data that the teacher cannot be asked or does not know, before anything costly.

        A limit on the length of texts that is less than `Distillation.max_tokens` is logged.

        Args:
            own: The teacher as a candidate.

        Raises:
            BadInput: The data is of another kind than the teacher reads, or the teacher is no
                better than chance on its labels.
            Unsupported: The quality of the teacher's students cannot be judged.
        """
        settings, teacher = self.distillation, own.teacher
        lesson, asked = lesson_of(teacher), self.parts(teacher).selection
        self._check_labels(asked, own, lesson)
        most = settings.max_tokens
        if not isinstance(asked, Pictures) and teacher.at_most(most) < most:
            logging.getLogger("protege").warning(
                "max_tokens=%d: the teacher reads %d tokens at most; texts are cut there",
                *(most, teacher.at_most(most)),
            )

    def _check_labels(self, asked: Questions, candidate: Candidate, lesson: Lesson) -> None:
        """Compare labels of classes with the teacher's answers, where there are any.

        Raises:
            BadInput: The teacher is no better than chance.
        """
        if isinstance(lesson, ClassLesson) and bool((asked.labels != NO_LABEL).any()):
            said = self._remembered(asked, candidate, lesson)["logits"].argmax(-1)
            check_known(said, asked.labels, self.data.classes, candidate.teacher)

    def parts(self, teacher: Teacher) -> "Parts":
        """What students learn from and are judged on, as questions; made once."""
        return _parts(self, teacher)

    def _rungs(self, candidate: Candidate) -> Iterator[Rung]:
        stops = self.distillation.rung_steps
        if candidate.is_teacher and self.distillation.steps:
            _ = self.parts(candidate.teacher).learnt  # what is wrong with it is found first
        if candidate.is_teacher or not self.distillation.steps:
            found = self._measured(candidate, [])
            yield from (Rung(step, found, step == stops[-1]) for step in stops)
            return
        checkpoint, best = self._checkpoint(candidate, stops), Best()
        state = checkpoint.read()
        if not state:
            # before anything is made ready for training: many a student gets no further
            checkpoint.rungs.append(self._judged(candidate, best, [], is_last=False))
        yield from (rung for rung in checkpoint.rungs if rung.step in stops)
        if state:
            state = best.recall(checkpoint.rungs, state, candidate.student)
        training = self.training(candidate)
        training.taken_up = state
        checkpoint.begin()
        done = len(state["losses"]) if state else 0
        yield from self._trained(candidate, training, best, checkpoint, done)

    def _trained(
        self,
        candidate: Candidate,
        training: Training,
        best: Best,
        checkpoint: Checkpoint,
        done: int,
    ) -> Iterator[Rung]:
        """Train from the step `done` on, and yield each rung as it is reached."""
        stops = self.distillation.rung_steps
        halts = training.run([step for step in self._halts(stops) if step > done])
        while True:
            if training.shrinking is None:  # which makes another student for every rung
                best.hold()
            with candidate.stopwatch.phase("distil"):
                step = next(halts, None)
            if step is None:
                return
            rungs = [self._rung(candidate, training, best)] if step in stops else []
            checkpoint.rungs += rungs
            if training.shrinking is None and step < stops[-1]:
                with candidate.stopwatch.phase("store"):
                    checkpoint.save(lambda: training.state() | best.state())
            yield from rungs

    def _rung(self, candidate: Candidate, training: Training, best: Best) -> Rung:
        """Judge the student where its training halts; at the last rung, restore the best one."""
        is_last = len(training.losses) == self.distillation.steps
        if training.shrinking is not None:
            candidate.student = training.shrinking.finish()
        found = self._judged(
            candidate,
            best,
            training.losses,
            is_last=is_last,
            learning_rate=training.settings.learning_rate,
        )
        if is_last:
            candidate.student = best.restore()
        return found

    def _judged(
        self,
        candidate: Candidate,
        best: Best,
        losses: list[float],
        *,
        is_last: bool,
        **details: float,
    ) -> Rung:
        found = self._measured(candidate, losses)
        found = replace(found, details={**found.details, **details})
        return best.see(len(losses), found, candidate.student, is_last=is_last)

    def _halts(self, stops: Sequence[int]) -> list[int]:
        """Where a training halts: to be judged, or to be stored and no more."""
        apart = math.ceil(self.distillation.steps / STORED)
        return sorted({*stops, *range(apart, self.distillation.steps, apart)})

    def _checkpoint(self, candidate: Candidate, stops: Sequence[int]) -> Checkpoint:
        """Where the candidate's training is stored, and what training it is."""
        key = {
            "teacher": candidate.teacher.fingerprint,
            "architecture": candidate.architecture.key(),
            "data": self.data.fingerprint,
            "retention": repr(self),
            "seed": candidate.seed,
            "stops": list(stops),
        }
        return Checkpoint(candidate.checkpoint, canonical(key))

    def _measured(self, candidate: Candidate, losses: list[float]) -> Measurement:
        """What the candidate's student is worth as it is now.

        Raises:
            ProtegeError: That is not a finite number.
        """
        verdict = self.judge(candidate.student.module, candidate, candidate.spelling)
        if not math.isfinite(verdict.value) or not bool(verdict.rows.isfinite().all()):
            raise ProtegeError(
                f"{self.name} after step {len(losses)} is {verdict.value}, not a finite number; "
                f"lower learning_rate={self.distillation.learning_rate:g}, "
                "or look at what the teacher answers to the data"
            )
        worth = self.parts(candidate.teacher).selection.by_sequence(verdict.rows).tolist()
        low, high = map(verdict.of_mean, interval(worth))
        details: dict[str, float | str] = {**verdict.figures, "low": low, "high": high}
        details["steps"] = len(losses)
        if losses:
            details |= {"first_loss": losses[0], "last_loss": losses[-1]}
        return Measurement(
            verdict.value, verdict.spread, tuple(losses), details, tuple(round(w, 6) for w in worth)
        )

    def _remembered(self, asked: Questions, candidate: Candidate, lesson: Lesson) -> Targets:
        """The teacher's answers to the questions: computed once, then read from the cache."""
        teacher = candidate.teacher
        key = {
            "teacher": teacher.fingerprint,
            "lesson": lesson.name,
            "questions": asked.fingerprint,
            "pooling": teacher.pooling and [teacher.pooling.mode, teacher.pooling.normalize],
        }
        with candidate.stopwatch.phase("teacher answers"):
            module = teacher.embedder() or teacher.model
            return remembered(candidate.cache, key, module, lesson, asked)


def lesson_of(teacher: Teacher) -> Lesson:
    """The lesson for the teacher's task.

    Raises:
        Unsupported: There is none, or it would not judge answers of the teacher's kind.
    """
    if teacher.task not in _LESSONS:
        raise Unsupported(
            f"retention of a model for {teacher.task} cannot be measured; "
            f"it can for {', '.join(_LESSONS)}"
        )
    found = unjudged(teacher.task, teacher.config, reads_pairs=teacher.reads_pairs)
    if found:
        raise Unsupported(
            f"{teacher.source}: {found}; retention of a model for {teacher.task} can be measured "
            "where each text, word or image has one of two or more classes; other tasks are "
            f"{', '.join(task for task in _LESSONS if task is not teacher.task)}"
        )
    return _LESSONS[teacher.task]


@dataclass(frozen=True)
class Parts:
    """A study's data as questions, each part made when it is first asked for.

    Attributes:
        retention: What they are for.
        teacher: Whose tokenizer reads them.
        examples: The data, split.
    """

    retention: Retention
    teacher: Teacher
    examples: Split

    @cached_property
    def learnt(self) -> Questions:
        """What students learn from."""
        return self._made(self.examples.train, self.retention.distillation.sequences_seen)

    @cached_property
    def selection(self) -> Questions:
        """What the search judges on."""
        return self._made(self.examples.selection, self.retention.selection)

    @cached_property
    def held_out(self) -> Questions:
        """What no search sees; as `selection` where there are too few examples for both."""
        if not self.examples.held_out:
            return self.selection
        return self._made(self.examples.held_out, self.retention.held_out)

    def _made(self, examples: list[Example], count: int) -> Questions:
        max_tokens = self.retention.distillation.max_tokens
        found = lesson_of(self.teacher).questions(self.teacher, examples, max_tokens)
        return found.first(count or CALIBRATING)


@lru_cache(maxsize=4)
def _parts(retention: Retention, teacher: Teacher) -> Parts:
    settings, lesson = retention.distillation, lesson_of(teacher)
    most = teacher.at_most(settings.max_tokens)
    split = retention.data.split(
        train=settings.sequences_seen or CALIBRATING,
        selection=retention.selection,
        held_out=retention.held_out,
        size=lambda example: lesson.size(example, most),
    )
    classes = retention.data.classes
    if classes and isinstance(lesson, ClassLesson):
        split = Split(*(renamed(part, classes, teacher) for part in split))
    return Parts(retention, teacher, split)


def _respelt(
    asked: Questions,
    targets: Targets,
    candidate: Candidate,
    lesson: Lesson,
    spelling: Spelling | None,
) -> tuple[Questions, Targets]:
    """The questions and the teacher's answers to them, as the student spells them."""
    if spelling is None:
        return asked, targets
    with candidate.stopwatch.phase("respell"):
        return lesson.respelt(asked, targets, spelling)
