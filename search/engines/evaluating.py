"""Evaluation of one candidate: cheap objectives first, then training rung by rung."""

import contextlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from protege.objectives import Candidate, Measurement, Objective, Retention
from protege.objectives.latency.runtimes.deployed import deployed
from protege.objectives.measurement import JUDGED_IN, Stage, TrainingRecord, worsened
from protege.objectives.objective import exceeds, judges_deployed, scores_rungs
from protege.objectives.quality.checkpoint import Rung
from protege.objectives.quality.rungs import CandidateDistillation
from protege.objectives.resources.size import parameters
from protege.search.records.failure import Failure, ends_study
from protege.search.records.trial import State, Trial, storable
from protege.spaces import Student


@dataclass
class Evaluation:
    """The evaluation of a candidate by the objectives, from cheap to costly.

    It ends at the first exceeded limit. If the limit is on an objective of the distilled student,
    or the candidate is the teacher, the trial is complete all the same and only left out of the
    front.

    Attributes:
        number: The number of its trial.
        candidate: The candidate; its student is not built yet.
        objectives: The objectives.
        checkpoint: File of the training checkpoint; None stores none.
        halts: Whether it halts at rungs.
        measurements: Measurements so far, by objective name.
        seconds: Time spent so far, by phase.
    """

    number: int
    candidate: Candidate
    objectives: Sequence[Objective]
    checkpoint: Path | None = None
    halts: bool = False
    measurements: dict[str, Measurement] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _rungs: dict[int, dict[str, float]] = field(default_factory=dict, init=False)
    _state: State = field(default=State.COMPLETE, init=False)
    _reason: str = field(default="", init=False)
    _untrained: dict[str, float] = field(default_factory=dict, init=False)
    _harmed: list[str] = field(default_factory=list, init=False)
    _traceback: str = field(default="", init=False)
    _rung: Rung | None = field(default=None, init=False)
    _distilling: CandidateDistillation | None = field(default=None, init=False)
    _rung_iterator: Generator[Rung, None, None] = field(init=False)

    def __post_init__(self) -> None:
        self._rung_iterator = self._measure_all()

    def advance(self) -> Rung | None:
        """Continue to the next rung.

        Returns:
            The rung, or None if the evaluation is done.

        Raises:
            BadInput: The teacher's own trial cannot use an input, or a device that all trials need
                is not available.
            DiskFull: The disk is full.
        """
        with self._timed():
            self._rung = next(self._rung_iterator, None)
        return self._rung

    def stop(self) -> None:
        """Stop at the current rung."""
        rung = self._rung
        if rung is not None:
            name, found = next(iter(rung.published.items()))
            self._state = State.STOPPED
            self._reason = f"outranked at step {rung.step}, with {name} {found.value:.4g}"
        self._end()

    @property
    def student(self) -> Student:
        """The student to publish."""
        if self._distilling is None:
            return self.candidate.built().student
        return self._distilling.published.candidate.student

    @property
    def held_bytes(self) -> int:
        """Bytes of the student's weights; 0 until a student was scored."""
        distilling = self._distilling
        if distilling is None or distilling.best is None:
            return 0
        return distilling.best.candidate.student.nbytes

    def trial(self) -> Trial:
        """Finish the evaluation and return the record; raises as `advance` does."""
        while self.advance():
            pass
        own = self.candidate.architecture
        return Trial(
            number=self.number,
            key=own.key(),
            architecture=own.fields(),
            state=self._state,
            measurements=self.measurements,
            seconds=self.seconds,
            reason=self._reason,
            rungs=self._rungs,
            training=self._training(),
            untrained=self._untrained,
            harmed=tuple(self._harmed),
            parameters=self._parameters(),
            traceback=self._traceback,
        )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the time; an exception fails this candidate unless it concerns all."""
        watch = self.candidate.stopwatch
        before = watch.snapshot()
        try:
            yield
        except Exception as error:  # whatever a model, a tokenizer or a user's code raises
            if ends_study(error, of_teacher=self.candidate.is_teacher):
                raise
            found = Failure.of(error)
            self._state, self._reason = State.FAILED, found.reason
            self._traceback = found.traceback
            self._end()
        for phase, seconds in watch.since(before).items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def _end(self) -> None:
        self._rung = None
        with contextlib.suppress(Exception):  # clean-up of foreign code; the outcome is known
            self._rung_iterator.close()

    def _parameters(self) -> int | None:
        """Count the student's parameters if it was built; counting itself fails no trial."""
        if self._state not in {State.COMPLETE, State.STOPPED}:
            return None
        try:
            return parameters(self.candidate)
        except Exception as error:
            if ends_study(error, of_teacher=self.candidate.is_teacher):
                raise
            return None

    def _training(self) -> TrainingRecord | None:
        distilling = self._distilling
        return None if distilling is None or distilling.best is None else distilling.record

    def _measure_all(self) -> Generator[Rung, None, None]:
        """Measure all missing objectives; yield each rung except the last."""
        left = [one for one in self.objectives if one.name not in self.measurements]
        early = [one for one in left if one.stage < Stage.STUDENT]
        late = [one for one in left if one.stage is Stage.STUDENT]
        for objective in sorted(early, key=lambda one: one.stage):
            self._add(objective, objective.measure(self.candidate))
            if self._ends_at_limit(objective):
                return
        if late:
            yield from self._distil(late)

    def _distil(self, objectives: Sequence[Objective]) -> Generator[Rung, None, None]:
        """Distil the student and measure it; yield each rung except the last."""
        scored = [one for one in objectives if scores_rungs(one)]
        judges = scored or [Retention()]  # selects the published rung
        self._distilling = CandidateDistillation(self.candidate, judges, self.checkpoint)
        start: dict[str, Measurement] = {}
        for rung in self._distilling.rungs():
            start = start or dict(rung.measurements if rung.step == 0 else {})
            for objective in scored:
                self._add(objective, rung.published[objective.name])
            self._rungs[rung.step] = {name: one.value for name, one in rung.measurements.items()}
            if self.halts and not rung.is_last:
                yield rung
        published = self._distilling.published.candidate
        final = self._deployed(published)
        for objective in objectives:
            if final is not published and judges_deployed(objective, published.teacher):
                self._add(objective, self._noted(objective.measure(final)))
            elif objective not in scored:
                self._add(objective, objective.measure(published))
            self._ends_at_limit(objective)
        if final is published:
            self._look_back([one for one in objectives if one is not judges[0]], start)

    def _deployed(self, published: Candidate) -> Candidate:
        """Return the candidate as its target runs it; itself if that is float32 in PyTorch."""
        how = self.candidate.prepared.deployment
        return published if how is None else deployed(published, how)

    def _noted(self, found: Measurement) -> Measurement:
        """Note how the student was run."""
        details = {**found.details, JUDGED_IN: str(self.candidate.prepared.deployment)}
        return replace(found, details=details)

    def _look_back(self, others: Sequence[Objective], start: Mapping[str, Measurement]) -> None:
        """Note what the student was worth before training, and what training made worse.

        Args:
            others: The objectives that do not select the published rung.
            start: Measurements of the untrained student.
        """
        training = self._training()
        if training is None or not training.best_step:
            return
        missing = [one for one in others if one.name not in start]
        looked = self.candidate.prepared.settings.scores_start
        untrained = self.candidate.built() if missing and looked else None
        for one in others:
            before = start.get(one.name)
            if before is None and untrained is not None:
                before = self._measured_on(untrained, one)
            if before is None:
                continue
            self._untrained[one.name] = before.value
            if worsened(before, self.measurements[one.name], one.direction):
                self._harmed.append(one.name)

    def _measured_on(self, untrained: Candidate, objective: Objective) -> Measurement | None:
        """Measure the untrained student; None if that fails, which costs the trial nothing."""
        try:
            return storable(objective.name, objective.measure(untrained))
        except Exception as error:
            if ends_study(error, of_teacher=self.candidate.is_teacher):
                raise
            return None

    def _add(self, objective: Objective, found: Measurement) -> None:
        self.measurements[objective.name] = storable(objective.name, found)

    def _ends_at_limit(self, objective: Objective) -> bool:
        """Return whether an exceeded limit ends the evaluation; note any exceeded limit."""
        value = self.measurements[objective.name].value
        if not exceeds(objective, value):
            return False
        self._reason = f"{objective.name} {value:.4g} is beyond the limit {objective.limit:g}"
        if objective.stage < Stage.STUDENT and not self.candidate.is_teacher:
            self._state = State.SCREENED
            return True
        return False
