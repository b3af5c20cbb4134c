"""Retention: a student's quality after a short distillation, relative to its teacher's."""

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
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL, Targets
from protege.objectives.distillation.progressive import shrinking
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import check_known, renamed
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.tasks.pictures import ImageInputs, ImageTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.task import DistillationTask, TaskScore
from protege.objectives.distillation.tasks.tokens import TokenTask
from protege.objectives.distillation.teacher_outputs import (
    CachedOutputs,
    LiveOutputs,
    TeacherOutputs,
    cached_outputs,
    judge,
)
from protege.objectives.distillation.training import Training
from protege.objectives.measurement import Cost, Direction, Measurement, Rung
from protege.spaces import ProtegeError, Task, Teacher, Unsupported
from protege.spaces.checkpoints.tasks import unjudged
from protege.spaces.files.hashing import canonical

_LESSONS: dict[Task, DistillationTask] = {
    Task.FEATURES: SentenceTask(),
    Task.SENTENCES: SentenceTask(),
    Task.FILL_MASK: LanguageTask(masked=True),
    Task.GENERATION: LanguageTask(),
    Task.TEXTS: ClassTask(),
    Task.TOKENS: TokenTask(),
    Task.TEXT_TO_TEXT: PairTask(),
    Task.IMAGES: ImageTask(),
}

CALIBRATING = 512
"""Training sequences to prepare for calibration when a distillation has no steps."""

STORED = 9
"""Checkpoint intervals per training; checkpoints less than `WORTH_SECONDS` apart are skipped."""


@dataclass(frozen=True)
class Retention:
    """Student quality on unseen examples after distillation, divided by the teacher's quality.

    Sentence encoders: mean cosine to the teacher's vectors. Language and sequence-to-sequence
    models: the teacher's perplexity divided by the student's. Text, token and image classifiers:
    accuracy divided by the teacher's, or agreement with the teacher if the data has no labels. A
    student with a cut vocabulary gets the same texts, mapped to its own tokens.

    The data is split by content into three disjoint parts, independent of order and duplicates:
    students train on the first, the search scores on the second, and `Search.confirm` scores the
    chosen students on the third, which the search never uses.

    Attributes:
        data: Training and evaluation examples.
        distillation: Distillation settings.
        selection: Sequences to score on during the search; at most a quarter of the data.
        held_out: Sequences to confirm on; at most a quarter of the data.
        limit: Minimum retention of a student; None means no limit.
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
        """Distil the candidate's student and return the measurement of its best rung.

        The candidate's student then has the weights of that rung. The first rung is the untrained
        student, so the result is never worse than without distillation.
        """
        *_, last = self.rungs(candidate)
        return last.published

    def rungs(self, candidate: Candidate) -> Iterator[Rung]:
        """Yield the student's measurement at each rung of its training.

        Closing the iterator ends the training. After the last rung the candidate's student has the
        weights of its best rung. The teacher is not trained: all its rungs are equal.
        """
        stops = self.distillation.rung_steps
        if candidate.is_teacher and self.distillation.steps:
            _ = self.parts(candidate.teacher).learnt  # raises early if the training data is invalid
        if candidate.is_teacher or not self.distillation.steps:
            found = self._measured(candidate, [])
            yield from (Rung(step, found, step == stops[-1]) for step in stops)
            return
        checkpoint, best = self._checkpoint(candidate, stops), Best()
        state = checkpoint.read()
        if not state:
            # scored before training is prepared, since many trials stop here
            checkpoint.rungs.append(self._score_rung(candidate, best, [], is_last=False))
        yield from (rung for rung in checkpoint.rungs if rung.step in stops)
        if state:
            state = best.recall(checkpoint.rungs, state, candidate.student)
        training = self.training(candidate)
        training.taken_up = state
        checkpoint.begin()
        done = len(state["losses"]) if state else 0
        yield from self._train(candidate, training, best, checkpoint, done)

    def judge(
        self,
        module: nn.Module,
        candidate: Candidate,
        vocabulary_map: VocabularyMap | None = None,
        *,
        held_out: bool = False,
    ) -> TaskScore:
        """Score a trained module against the candidate's teacher.

        Args:
            module: The student's module.
            candidate: Provides teacher, cache and stopwatch.
            vocabulary_map: Map from teacher tokens to student tokens; None if the vocabulary is not cut.
            held_out: Whether to score on the held-out part instead of the selection part.
        """
        task, parts = distillation_task(candidate.teacher), self.parts(candidate.teacher)
        inputs = parts.held_out if held_out else parts.selection
        targets = self._teacher_outputs(inputs, candidate, task)
        if not held_out:
            self._check_labels(inputs, candidate, task)
        mapped, outputs = _mapped(inputs, targets, candidate, task, vocabulary_map)
        with candidate.stopwatch.phase("evaluate"):
            score = task.score(judge(module, task, mapped, outputs))
        if vocabulary_map is not None:
            score.figures["pieces_per_token"] = float(mapped.lengths.sum() / inputs.lengths.sum())
        return score

    def training(self, candidate: Candidate) -> Training:
        """Prepare the training of the candidate's student.

        Raises:
            Unsupported: The student has a cut vocabulary, and the distillation runs the teacher at
                every step.
        """
        teacher, settings = candidate.teacher, self.distillation
        settings = replace(settings, accumulate=max(settings.accumulate, candidate.parts))
        task, inputs = settings.tuned(distillation_task(teacher)), self.parts(teacher).learnt
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
        answers: TeacherOutputs
        if settings.answers == "online" or settings.hidden_losses:
            if candidate.vocabulary_map is not None:
                raise Unsupported(
                    "a student with a cut vocabulary cannot be distilled from a teacher that "
                    'answers online, which reads different tokens; give answers="cached" and no '
                    "losses on hidden states or attention"
                )
            answers = LiveOutputs(teacher.embedder() or teacher.model, task, inputs.labels)
        else:
            targets = self._teacher_outputs(inputs, candidate, task)
            inputs, targets = _mapped(inputs, targets, candidate, task, candidate.vocabulary_map)
            answers = CachedOutputs.of(inputs, targets)
        training = Training(
            settings=settings,
            student=candidate.student,
            task=task,
            inputs=inputs,
            answers=answers,
            teacher=teacher,
            shrinking=deeper or None,
            seed=candidate.seed,
            announce=candidate.stopwatch.show,
        )
        if settings.full_rate_at != 0:
            rate = settings.rate(training.distance(start), task)
            training.settings = replace(settings, learning_rate=rate)
        return training

    def check(self, own: Candidate) -> None:
        """Check early that the data fits the teacher.

        Logs a warning if the teacher reads fewer tokens than `Distillation.max_tokens`.

        Args:
            own: The teacher as a candidate.

        Raises:
            BadInput: The teacher cannot read this kind of data, or is no better than chance on its
                labels.
            Unsupported: Retention is not defined for the teacher's task.
        """
        settings, teacher = self.distillation, own.teacher
        task, inputs = distillation_task(teacher), self.parts(teacher).selection
        self._check_labels(inputs, own, task)
        most = settings.max_tokens
        if not isinstance(inputs, ImageInputs) and teacher.at_most(most) < most:
            logging.getLogger("protege").warning(
                "max_tokens=%d: the teacher reads %d tokens at most; texts are cut there",
                *(most, teacher.at_most(most)),
            )

    def _check_labels(
        self, inputs: TaskInputs, candidate: Candidate, task: DistillationTask
    ) -> None:
        """Check that the teacher predicts the class labels, if the data has any.

        Raises:
            BadInput: The teacher is no better than chance.
        """
        if isinstance(task, ClassTask) and bool((inputs.labels != NO_LABEL).any()):
            predicted = self._teacher_outputs(inputs, candidate, task)["logits"].argmax(-1)
            check_known(predicted, inputs.labels, self.data.classes, candidate.teacher)

    def parts(self, teacher: Teacher) -> "Parts":
        """Return the data split and tokenised for the teacher; cached."""
        return _parts(self, teacher)

    def _train(
        self,
        candidate: Candidate,
        training: Training,
        best: Best,
        checkpoint: Checkpoint,
        done: int,
    ) -> Iterator[Rung]:
        """Train from step `done` on and yield each rung."""
        stops = self.distillation.rung_steps
        halts = training.run([step for step in self._halts(stops) if step > done])
        while True:
            if training.shrinking is None:  # progressive training builds a new student per rung
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
        """Score the student at a rung; after the last one, restore the best rung's weights."""
        is_last = len(training.losses) == self.distillation.steps
        if training.shrinking is not None:
            candidate.student = training.shrinking.finish()
        found = self._score_rung(
            candidate,
            best,
            training.losses,
            is_last=is_last,
            learning_rate=training.settings.learning_rate,
        )
        if is_last:
            candidate.student = best.restore()
        return found

    def _score_rung(
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
        """Return the steps at which training halts to be scored or only saved."""
        apart = math.ceil(self.distillation.steps / STORED)
        return sorted({*stops, *range(apart, self.distillation.steps, apart)})

    def _checkpoint(self, candidate: Candidate, stops: Sequence[int]) -> Checkpoint:
        """Return the checkpoint of the candidate's training, keyed by all that determines it."""
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
        """Score the candidate's student in its current state.

        Raises:
            ProtegeError: The score is not finite.
        """
        score = self.judge(candidate.student.module, candidate, candidate.vocabulary_map)
        if not math.isfinite(score.value) or not bool(score.rows.isfinite().all()):
            raise ProtegeError(
                f"{self.name} after step {len(losses)} is {score.value}, not a finite number; "
                f"lower learning_rate={self.distillation.learning_rate:g}, "
                "or check the teacher's outputs on the data"
            )
        scores = self.parts(candidate.teacher).selection.by_sequence(score.rows).tolist()
        low, high = map(score.of_mean, interval(scores))
        details: dict[str, float | str] = {**score.figures, "low": low, "high": high}
        details["steps"] = len(losses)
        if losses:
            details |= {"first_loss": losses[0], "last_loss": losses[-1]}
        rounded = tuple(round(score, 6) for score in scores)
        return Measurement(score.value, score.spread, tuple(losses), details, rounded)

    def _teacher_outputs(
        self, inputs: TaskInputs, candidate: Candidate, task: DistillationTask
    ) -> Targets:
        """Return the teacher's outputs from the cache; compute them if missing."""
        teacher = candidate.teacher
        key = {
            "teacher": teacher.fingerprint,
            "task": task.name,
            "inputs": inputs.fingerprint,
            "pooling": teacher.pooling and [teacher.pooling.mode, teacher.pooling.normalize],
        }
        with candidate.stopwatch.phase("teacher answers"):
            module = teacher.embedder() or teacher.model
            return cached_outputs(candidate.cache, key, module, task, inputs)


def distillation_task(teacher: Teacher) -> DistillationTask:
    """Return the distillation task that fits the teacher's own.

    Raises:
        Unsupported: Retention is not defined for the teacher's task or for its outputs.
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
    """The data of a study, split and tokenised; each part is prepared on first use.

    Attributes:
        retention: The objective that defines sizes and limits.
        teacher: The teacher, whose tokenizer or processor is used.
        examples: The split data.
    """

    retention: Retention
    teacher: Teacher
    examples: Split

    @cached_property
    def learnt(self) -> TaskInputs:
        """The training part."""
        return self._prepare(self.examples.train, self.retention.distillation.sequences_seen)

    @cached_property
    def selection(self) -> TaskInputs:
        """The part that the search scores on."""
        return self._prepare(self.examples.selection, self.retention.selection)

    @cached_property
    def held_out(self) -> TaskInputs:
        """The part that the search never uses; `selection` if there are too few examples."""
        if not self.examples.held_out:
            return self.selection
        return self._prepare(self.examples.held_out, self.retention.held_out)

    def _prepare(self, examples: list[Example], count: int) -> TaskInputs:
        max_tokens = self.retention.distillation.max_tokens
        found = distillation_task(self.teacher).inputs(self.teacher, examples, max_tokens)
        return found.first(count or CALIBRATING)


@lru_cache(maxsize=4)
def _parts(retention: Retention, teacher: Teacher) -> Parts:
    settings, task = retention.distillation, distillation_task(teacher)
    most = teacher.at_most(settings.max_tokens)
    split = retention.data.split(
        train=settings.sequences_seen or CALIBRATING,
        selection=retention.selection,
        held_out=retention.held_out,
        size=lambda example: task.size(example, most),
    )
    classes = retention.data.classes
    if classes and isinstance(task, ClassTask):
        split = Split(*(renamed(part, classes, teacher) for part in split))
    return Parts(retention, teacher, split)


def _mapped(
    inputs: TaskInputs,
    targets: Targets,
    candidate: Candidate,
    task: DistillationTask,
    vocabulary_map: VocabularyMap | None,
) -> tuple[TaskInputs, Targets]:
    """Map inputs and teacher outputs to the student's vocabulary, if it is cut."""
    if vocabulary_map is None:
        return inputs, targets
    with candidate.stopwatch.phase("respell"):
        return task.mapped(inputs, targets, vocabulary_map)
