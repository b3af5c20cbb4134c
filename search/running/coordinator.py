"""The coordinator: the one process that owns a study, asks for trials and records results."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protege.objectives import Candidate, Objective, Stopwatch
from protege.objectives.candidate import Prepared
from protege.objectives.objective import scores_rungs
from protege.search.display.study import StudyProgress
from protege.search.engines.engine import Engine
from protege.search.engines.events import Event, Job, JobFinished, JobLost, RungReached
from protege.search.records.failure import Failure, FailureStreak, ends_study
from protege.search.records.results import (
    remove_finished,
    remove_leftovers,
    stored_trial,
    weights_folder,
)
from protege.search.records.trial import State, Trial, sizes_of
from protege.search.records.wording import outcome
from protege.search.running.finished import FinishedTrials
from protege.search.running.judging import Judge
from protege.search.running.racing import Race
from protege.search.running.screening import screened
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.study.artifacts import Artifacts
from protege.search.study.study import StoredStudy
from protege.spaces import ProtegeError

ATTEMPTS = 5
"""Worker crashes after which a trial is marked failed."""


@dataclass
class Coordinator:
    """A study under way.

    Attributes:
        study: The stored study.
        prepared: What all candidates share.
        objectives: The objectives of the study.
        folder: The run folder.
        race: The rule that stops candidates at rungs, or None to train all of them to the end.
        engine: Runs the jobs.
        artifacts: The store that weights are uploaded to, if any.
        prescored: Number of candidates that are scored as cut and healed before any is trained.
            Most are anchors, so training results would not improve the proposals among them.
        most_held_bytes: Bytes of pre-scored students above which no more are pre-scored.
        progress: Shows the running trials.
        finished: The finished trials.
        ended: Why the study ended.
    """

    study: StoredStudy
    prepared: Prepared
    objectives: Sequence[Objective]
    folder: Path
    race: Race | None
    engine: Engine
    artifacts: Artifacts | None = None
    prescored: int = 10
    most_held_bytes: int = 2 << 30
    progress: StudyProgress = field(default_factory=StudyProgress)
    finished: FinishedTrials = field(init=False)
    ended: str = field(default="", init=False)
    _jobs: dict[int, Job] = field(default_factory=dict, init=False)
    """Jobs by trial number that have begun and are not finished."""
    _halted: dict[int, RungReached] = field(default_factory=dict, init=False)
    """Jobs that reached a rung and wait for the decision."""
    _again: dict[int, Job] = field(default_factory=dict, init=False)
    """Jobs to start again because their worker crashed."""
    _in_prescoring: set[int] = field(default_factory=set, init=False)
    """Trials that are pre-scored before any is trained."""
    _failures: FailureStreak = field(default_factory=FailureStreak, init=False)
    """Counts consecutive failures with the same reason."""

    @property
    def stopwatch(self) -> Stopwatch:
        """Counts time that belongs to no trial."""
        return self.prepared.stopwatch

    def __post_init__(self) -> None:
        self.finished = FinishedTrials(self.study.objectives, self.study.space.baselines[0].key())
        for number, key in self.study.unfinished():
            found = stored_trial(self.folder, number, key)
            # its job finished, but the coordinator was killed before it recorded the result;
            # a failed teacher is tried again
            if found is not None and not self.finished.is_failed_teacher(found):
                self.study.tell(found)
        for trial in self.study.trials():
            self.finished.add(trial)
        front = self.finished.on_front
        remove_finished(self.folder, front, [one.number for one in self.finished.trials])
        remove_leftovers(self.folder, front, self.study.numbers())
        self._sync()

    def go_on(self, stopping: Stopping, stop_request: StopRequest) -> Iterator[Trial]:
        """Run the study until it ends, yield each trial once stored, and set `ended` to the reason.

        Raises:
            ProtegeError: The teacher itself cannot be measured, or many trials in a row fail for
                the same reason.
        """
        began = time.monotonic()
        while True:
            self._failures.check(has_succeeded=self.finished.has_succeeded)
            reason = self._reason(stopping, stop_request, time.monotonic() - began)
            if reason:
                self._drop_waiting()
            yield from self._submit_jobs(0 if reason else stopping.trials)
            if not self._running:
                break
            for event in self._events():
                yield from self._handle(event)
        self.ended = self._reason(stopping, stop_request, time.monotonic() - began)

    def show(self, ended: Trial | None = None) -> None:
        """Show trials done, front size and hypervolume, and a trial that ended just now."""
        volumes, progress = self.finished.volumes, self.progress
        if ended is not None:
            # a warning says why it failed
            line = (
                ""
                if ended.state is State.FAILED
                else outcome(
                    ended,
                    self.study.objectives.names,
                    on_front=ended.number in self.finished.on_front,
                    is_teacher=ended.key == self.finished.teacher_key,
                )
            )
            progress.ended(ended.number, line)
        progress.done(len(self.finished), len(self.finished.front), volumes[-1] if volumes else 0.0)

    def _reason(self, stopping: Stopping, stop_request: StopRequest, seconds: float) -> str:
        """Return why no further trial begins, or an empty string."""
        if reason := stopping.reason(self.finished.volumes, seconds):
            return reason
        if not self._jobs and self.study.exhausted:
            return f"all {len(self.study.space)} students of the space were tried"
        return stop_request.reason

    @property
    def _running(self) -> int:
        """Number of jobs that are running."""
        return len(self._jobs) - len(self._halted) - len(self._again)

    def _submit_jobs(self, trials: int) -> Iterator[Trial]:
        """Submit jobs until the engine is full; yield the trials that are screened instead.

        Args:
            trials: Limit on the total number of trials. Jobs that have begun go on regardless.
        """
        if self.engine.synchronous and self._running:
            return
        if not self._is_prescoring(trials):
            for number in sorted(self._halted):
                if self.engine.free(number):
                    self._continue(number)
        while self.engine.free() and self._again:
            self._submit(self._again.pop(min(self._again)))
        while self.engine.free() and self._may_begin(trials):
            trial = self._begin(prescored=self._prescores_another(trials))
            if trial is not None:
                yield trial

    def _is_prescoring(self, trials: int) -> bool:
        """Return whether pre-scoring is under way, during which no student is trained.

        The race then compares all pre-scored students before any training is spent.
        """
        return bool(self._in_prescoring - self._halted.keys()) or self._prescores_another(trials)

    def _prescores_another(self, trials: int) -> bool:
        """Return whether another student is to be pre-scored."""
        if not self._can_prescore or self.finished.teacher is None:  # scores need the teacher's
            return False
        has_room = sum(one.held_bytes for one in self._halted.values()) < self.most_held_bytes
        return self._begun < min(trials, self.prescored) and has_room and not self.study.exhausted

    @property
    def _begun(self) -> int:
        """Number of trials that are finished or under way."""
        return len(self.finished) + len(self._jobs)

    @property
    def _can_prescore(self) -> bool:
        """Whether students can be scored before training."""
        own, scores = self.prepared.distillation, any(map(scores_rungs, self.objectives))
        return self.race is not None and scores and own is not None and own.rung_steps[0] == 0

    def _may_begin(self, trials: int) -> bool:
        """Return whether another trial is to begin now."""
        if self._begun >= trials:
            return False
        if self.finished.teacher is None and self._jobs:
            return False  # its outputs and latency are computed once, for all trials
        if self._is_prescoring(trials) and not self._prescores_another(trials):
            return False  # finish pre-scoring first
        return not self.study.exhausted

    def _begin(self, *, prescored: bool) -> Trial | None:
        """Begin the next trial; return it if it is screened or failed at once, else None."""
        with self.stopwatch.phase("propose"):
            number, architecture = self.study.ask()
        try:
            with self.stopwatch.phase("propose"):
                candidate = Candidate(self.prepared, architecture)
                found = screened(number, candidate, self.objectives, self.finished.trials)
        except Exception as error:
            if ends_study(error, of_teacher=architecture.key() == self.finished.teacher_key):
                raise
            return self._finish(Failure.of(error).trial(number, architecture))
        if found is not None:
            return self._store(found)
        self._jobs[number] = Job(number, architecture)
        if prescored:
            self._in_prescoring.add(number)
        self._submit(self._jobs[number])
        return None

    def _submit(self, job: Job) -> None:
        self.progress.run(job.number, sizes_of(job.architecture.fields()))
        self.engine.submit(job)

    def _continue(self, number: int) -> None:
        """Tell the engine whether a job that waits at a rung goes on."""
        halted = self._halted.pop(number)
        self._in_prescoring.discard(number)
        goes_on = self._judge(number).goes_on(halted.step, halted.measurements)
        self.progress.run(number, sizes_of(self._jobs[number].architecture.fields()))
        self.engine.answer(number, goes_on=goes_on)

    def _drop_waiting(self) -> None:
        """Drop jobs that were only pre-scored or await a retry; the next run resumes them."""
        for number in (self._in_prescoring & self._halted.keys()) | self._again.keys():
            del self._jobs[number]
            self._halted.pop(number, None)
            self._again.pop(number, None)
            self._in_prescoring.discard(number)

    def _events(self) -> list[Event]:
        """Wait for the next event; in synchronous mode for one of each job, by trial number."""
        with self.stopwatch.paused():  # jobs count their own time
            count = self._running if self.engine.synchronous else 1
            return sorted((self.engine.wait_any() for _ in range(count)), key=lambda e: e.number)

    def _handle(self, event: Event) -> Iterator[Trial]:
        """Handle an event; yield the trial if it has ended."""
        match event:
            case RungReached(number, step, measurements, _):
                values = {name: found.value for name, found in measurements.items()}
                self.progress.rung(number, step, values)
                self._judge(number).reached(step, measurements)
                self._halted[number] = event
            case JobFinished(trial):
                yield self._finish(trial)
            case JobLost(number, reason):
                yield from self._retry(number, reason)

    def _finish(self, trial: Trial) -> Trial:
        """Store a finished trial and add up its seconds."""
        if self.finished.is_failed_teacher(trial):
            error = ProtegeError(f"the teacher itself cannot be measured: {trial.reason}")
            error.add_note(trial.traceback)
            raise error
        for phase, seconds in trial.seconds.items():
            self.stopwatch.seconds[phase] += seconds
        return self._store(trial)

    def _retry(self, number: int, reason: str) -> Iterator[Trial]:
        """Queue a job again whose worker crashed, or yield its failed trial after `ATTEMPTS`."""
        self._halted.pop(number, None)
        self.progress.wait(number)
        job = self._jobs.get(number)
        if job is None:
            return  # dropped for the next run
        if reason and self.study.add_crash(number, reason) >= ATTEMPTS:
            failure = Failure(f"{ATTEMPTS} processes died over it: {reason}", traceback="")
            yield self._finish(failure.trial(number, job.architecture))
        else:
            self._again[number] = job

    def _store(self, trial: Trial) -> Trial:
        """Store a trial, upload its weights if it joins the front, and clean up after it."""
        with self.stopwatch.phase("store"):
            trial = self._upload(trial)
            before = self.finished.on_front
            self.finished.add(trial)
            self._failures.add(trial)
            front = self.finished.on_front
            self.study.tell(trial)
            self._jobs.pop(trial.number, None)
            self._in_prescoring.discard(trial.number)
            remove_finished(self.folder, front, {trial.number} | (before - front))
            self._sync()
        return trial

    def _upload(self, trial: Trial) -> Trial:
        """Upload the weights of a trial that joins the front; return it, failed if that fails."""
        if not self.artifacts or trial not in self.finished.front_with(trial):
            return trial
        try:
            self.artifacts.put(weights_folder(self.folder, trial.number))
        except Exception as error:
            if ends_study(error, of_teacher=trial.key == self.finished.teacher_key):
                raise
            return Failure.of(error).ending(trial, "its weights could not be sent")
        return trial

    def _sync(self) -> None:
        """Make the store hold exactly the weights of the front."""
        if self.artifacts:
            self.artifacts.sync(weights_folder(self.folder, t.number) for t in self.finished.front)

    def _judge(self, number: int) -> Judge:
        """Return the judge of a candidate; baselines are never stopped."""
        never = self._jobs[number].architecture in self.study.space.baselines
        race = self.race or Race()
        return Judge(race, self.study, number, self.stopwatch, never_stops=never)
