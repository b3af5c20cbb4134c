"""The distillation of one candidate, scored at the rungs of its training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from protege.objectives.candidate import Candidate
from protege.objectives.distillation.batch_norms import learnt_tensors
from protege.objectives.distillation.progressive import shrinking
from protege.objectives.distillation.teacher_outputs import (
    CachedOutputs,
    LiveOutputs,
    TeacherOutputs,
)
from protege.objectives.distillation.training import STUDENT, State, Training
from protege.objectives.measurement import Measurement, TrainingRecord
from protege.objectives.objective import Objective
from protege.objectives.quality.checkpoint import Checkpoint, Rung
from protege.spaces import ProtegeError, Unsupported
from protege.spaces.files.hashing import canonical

BEST = "best."
"""Prefix of the best rung's weights in a saved training state."""

RATE = "learning_rate"
"""The peak learning rate in a saved training state."""

STORED = 9
"""Checkpoint intervals per training; see `Distillation.checkpoint_every_s`."""


@dataclass(frozen=True)
class BestRung:
    """The best rung so far.

    Attributes:
        step: Its training step.
        measurements: The measurements at it, by objective name.
        candidate: The candidate with the student's weights at it.
    """

    step: int
    measurements: Mapping[str, Measurement]
    candidate: Candidate


@dataclass
class CandidateDistillation:
    """The distillation of one candidate.

    Training can make a student worse than it was as cut and healed. So the first rung is the
    untrained student, and what is published is the best rung, by the first of the objectives. Of
    equal rungs the earlier one is best. The teacher is not trained: all its rungs are equal.

    Attributes:
        candidate: The candidate; its student is not built yet.
        objectives: One or more objectives that score every rung.
        path: File of the training checkpoint, from which an interrupted trial resumes; None stores
            no checkpoint.
        best: The best rung so far; None before the first one.
        losses: The loss of every step so far.
        learning_rate: The peak rate; 0 before training.
    """

    candidate: Candidate
    objectives: Sequence[Objective]
    path: Path | None = None
    best: BestRung | None = field(default=None, init=False)
    losses: list[float] = field(default_factory=list, init=False)
    learning_rate: float = field(default=0.0, init=False)

    def rungs(self) -> Iterator[Rung]:
        """Yield the measurements at each rung; closing the iterator ends the training."""
        settings = self.candidate.prepared.settings
        stops = settings.rung_steps
        if settings.steps and not self.candidate.is_teacher:
            yield from self._trained(stops)
            return
        if settings.steps:
            _ = self.candidate.prepared.data.learnt  # raises early if the training data is invalid
        yield from (self._untrained(step, stops) for step in stops)

    def last(self) -> BestRung:
        """Train to the end and return the best rung."""
        for _ in self.rungs():
            pass
        return self.published

    @property
    def published(self) -> BestRung:
        """The best rung so far.

        Raises:
            ProtegeError: No rung was scored yet.
        """
        if self.best is None:
            raise ProtegeError("no rung was scored yet: there is no student to publish")
        return self.best

    @property
    def record(self) -> TrainingRecord | None:
        """How the student was trained; None if it was not, as the teacher."""
        if self.candidate.is_teacher or not self.candidate.prepared.settings.steps:
            return None
        step = self.published.step
        return TrainingRecord(len(self.losses), step, self.learning_rate, tuple(self.losses))

    def _untrained(self, step: int, stops: Sequence[int]) -> Rung:
        if self.best is None:
            start = self.candidate.built()
            self.best = BestRung(0, self._scores(start), start)
        found = self.best.measurements
        return Rung(step, found, found, is_last=step == stops[-1])

    def _trained(self, stops: Sequence[int]) -> Iterator[Rung]:
        every_s = self.candidate.prepared.settings.checkpoint_every_s
        clock = self.candidate.stopwatch.clock
        checkpoint = Checkpoint(self.path, self._key(stops), every_s, clock)
        state = checkpoint.read()
        start = self.candidate.built()
        if state:
            state = self._recall(checkpoint.rungs, state, start)
        else:
            # scored before training is prepared, since many trials stop here
            checkpoint.rungs.append(self._rung(0, start, is_last=False))
        yield from (rung for rung in checkpoint.rungs if rung.step in stops)
        training = replace(training_of(start), resumed_from=state)
        start = replace(start, made=None)  # frees its weights once a better rung is found
        self.losses, self.learning_rate = training.losses, training.settings.learning_rate
        checkpoint.begin()
        done = len(state["losses"]) if state else 0
        yield from self._train(start, training, checkpoint, stops, done)

    def _train(
        self,
        start: Candidate,
        training: Training,
        checkpoint: Checkpoint,
        stops: Sequence[int],
        done: int,
    ) -> Iterator[Rung]:
        """Train from step `done` on and yield each rung."""
        stopwatch = start.stopwatch
        halts = training.run([step for step in _halts(stops) if step > done])
        while True:
            with stopwatch.phase("distil"):
                step = next(halts, None)
            if step is None:
                return
            rungs = []
            if step in stops:
                reached = start.trained(training.reached())
                rungs = [self._rung(step, reached, is_last=step == stops[-1])]
            checkpoint.rungs += rungs
            if training.shrinking is None and step < stops[-1]:
                with stopwatch.phase("store"):
                    checkpoint.save(partial(self._state, training, step))
            yield from rungs

    def _rung(self, step: int, candidate: Candidate, *, is_last: bool) -> Rung:
        """Score a candidate's student and keep it if it is the best so far."""
        found = self._scores(candidate, step)
        if self.best is None or self._worth(found) > self._worth(self.best.measurements):
            self.best = None  # frees its weights before others are copied
            goes_on = step > 0 and not is_last
            kept = candidate.trained(candidate.student.copy()) if goes_on else candidate
            self.best = BestRung(step, found, kept)
        return Rung(step, found, self.best.measurements, is_last=is_last)

    def _scores(self, candidate: Candidate, step: int = 0) -> dict[str, Measurement]:
        """Measure each objective.

        Raises:
            ProtegeError: A value is not finite.
        """
        found = {one.name: one.measure(candidate) for one in self.objectives}
        for name, one in found.items():
            if not math.isfinite(one.value):
                raise ProtegeError(
                    f"{name} after step {step} is {one.value}, not a finite number; lower "
                    f"learning_rate={candidate.prepared.settings.learning_rate:g}, or check the "
                    "teacher's outputs on the data"
                )
        return found

    def _worth(self, found: Mapping[str, Measurement]) -> float:
        """Return the value by the first objective; higher is better."""
        first = self.objectives[0]
        value = found[first.name].value
        return value if first.direction == "maximize" else -value

    def _state(self, training: Training, step: int) -> State:
        """Return the state of the training at a step, with the best rung's weights.

        Those are left out if the best rung is the untrained student, which a resumed trial builds
        again, or at this very step.
        """
        best, rate = self.published, torch.tensor(self.learning_rate, dtype=torch.double)
        state = training.state() | {RATE: rate}
        if best.step in {0, step}:
            return state
        named = learnt_tensors(best.candidate.student.module)
        return state | {f"{BEST}{name}": one.detach() for name, one in named.items()}

    def _recall(
        self, rungs: Sequence[Rung], state: Mapping[str, Tensor], start: Candidate
    ) -> Mapping[str, Tensor]:
        """Restore the best rung of an interrupted training, its losses and its learning rate.

        Args:
            rungs: The rungs passed so far.
            state: The saved training state, as `_state` returned it.
            start: The candidate with the untrained student.

        Returns:
            The state of the training alone.
        """
        self.losses, self.learning_rate = state["losses"].tolist(), float(state[RATE])
        held = {name: one for name, one in state.items() if name != RATE}
        own = {name: one for name, one in held.items() if not name.startswith(BEST)}
        best = max(rungs, key=lambda rung: self._worth(rung.measurements))
        kept = start
        if best.step:
            saved = BEST if len(own) < len(held) else STUDENT  # saved at the best rung
            kept = start.trained(start.student.copy())
            with torch.no_grad():
                for name, parameter in learnt_tensors(kept.student.module).items():
                    parameter.copy_(state[f"{saved}{name}"])
        self.best = BestRung(best.step, best.measurements, kept)
        return own

    def _key(self, stops: Sequence[int]) -> str:
        """Return the identity of the training: all that determines its checkpoints."""
        own, shared = self.candidate, self.candidate.prepared
        return canonical(
            {
                "teacher": own.teacher.fingerprint,
                "answers_from": shared.answering.fingerprint,
                "architecture": own.architecture.key(),
                "data": shared.settings.data.fingerprint,
                "distillation": repr(shared.settings),
                # names: the text of a function or a foreign object differs between processes
                "objectives": [one.name for one in self.objectives],
                "seed": shared.seed,
                "stops": list(stops),
            }
        )


def training_of(start: Candidate) -> Training:
    """Prepare the training of a candidate's student, which itself stays as it is.

    Raises:
        Unsupported: The student has a cut vocabulary, and the distillation runs the teacher at
            every step.
    """
    shared, teacher, own = start.prepared, start.teacher, start.architecture
    settings = shared.settings
    task, inputs = settings.tuned(shared.data.standardised), shared.data.learnt
    known = shared.calibration if own.looks_at_data else None
    deeper = settings.progressive and shrinking(
        teacher, own, known, settings.progressive, start.stopwatch
    )
    answers: TeacherOutputs
    if settings.answers == "online" or settings.hidden_losses:
        if start.vocabulary_map is not None:
            raise Unsupported(
                "a student with a cut vocabulary cannot be distilled from a teacher that "
                'answers online, which reads different tokens; give answers="cached" and no '
                "losses on hidden states or attention"
            )
        asked = shared.answering
        answers = LiveOutputs(asked.embedder() or asked.model, task, inputs.labels)
    else:
        inputs, targets = start.inputs_and_targets(shared.data, inputs, task)
        answers = CachedOutputs.of(inputs, targets)
    training = Training(
        settings=settings,
        student=deeper.student if deeper else start.student.copy(),
        task=task,
        inputs=inputs,
        answers=answers,
        teacher=teacher,
        shrinking=deeper or None,
        seed=shared.seed,
        announce=start.stopwatch.show,
    )
    return training.at_rate(start.student)


def _halts(stops: Sequence[int]) -> list[int]:
    """Return the steps at which training halts to be scored or only saved."""
    apart = math.ceil(stops[-1] / STORED)
    return sorted({*stops, *range(apart, stops[-1], apart)})
