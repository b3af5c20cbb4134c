"""The coordinator: the one process that owns a study, asks for trials and records results."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protege.objectives import Candidate, Objective, Stopwatch
from protege.objectives.candidate import Prepared
from protege.objectives.objective import scores_rungs
from protege.search.engines.engine import Engine
from protege.search.engines.events import Event, Job, JobFinished, JobLost, RungReached
from protege.search.progress import StudyProgress
from protege.search.records.failure import Failure, FailureStreak, ends_study
from protege.search.records.results import artifact, clear, recorded, sweep
from protege.search.records.trial import State, Trial
from protege.search.running.judging import Judge
from protege.search.running.racing import Race
from protege.search.running.screening import screened
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.study.artifacts import Artifacts
from protege.search.study.study import StoredStudy
from protege.spaces import Architecture, ProtegeError

SCOUTED = 10
"""Default number of candidates that are scored as cut and healed before any of them is trained.
Most are anchors, so training results would not improve the proposals among them."""

HELD_BYTES = 2 << 30
"""Default bytes of pre-scored students that wait for training; above it no more are pre-scored."""

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
        scouted: Number of candidates that are pre-scored before any is trained.
        most_held_bytes: Bytes of pre-scored students above which no more are pre-scored.
        done: Finished trials, in order.
        front: The non-dominated ones among them.
        volumes: The hypervolume after each finished trial.
        teacher: The teacher's own trial, once it is complete.
        ended: Why the study ended.
    """

    study: StoredStudy
    prepared: Prepared
    objectives: Sequence[Objective]
    folder: Path
    race: Race | None
    engine: Engine
    artifacts: Artifacts | None = None
    scouted: int = SCOUTED
    most_held_bytes: int = HELD_BYTES
    done: list[Trial] = field(default_factory=list, init=False)
    front: list[Trial] = field(default_factory=list, init=False)
    volumes: list[float] = field(default_factory=list, init=False)
    teacher: Trial | None = field(default=None, init=False)
    ended: str = field(default="", init=False)
    _jobs: dict[int, Job] = field(default_factory=dict, init=False)
    """Jobs by trial number that have begun and are not finished."""
    _halted: dict[int, RungReached] = field(default_factory=dict, init=False)
    """Jobs that reached a rung and wait for the decision."""
    _again: dict[int, Job] = field(default_factory=dict, init=False)
    """Jobs to start again because their worker crashed."""
    _ahead: set[int] = field(default_factory=set, init=False)
    """Trials that are pre-scored before any is trained."""
    _failures: FailureStreak = field(default_factory=FailureStreak, init=False)
    """Counts consecutive failures with the same reason."""

    @property
    def stopwatch(self) -> Stopwatch:
        """Counts time that belongs to no trial."""
        return self.prepared.stopwatch

    def __post_init__(self) -> None:
        for number, key in self.study.unfinished():
            found = recorded(self.folder, number, key)
            # its job finished, but the coordinator was killed before it recorded the result;
            # a failed teacher is tried again
            if found is not None and not self._has_no_teacher(found):
                self.study.tell(found)
        for trial in self.study.trials():
            self._add(trial)
        front = [one.number for one in self.front]
        sweep(self.folder, front, [one.number for one in self.done])
        clear(self.folder, front, self.study.numbers())
        self._sync()

    def go_on(self, stopping: Stopping, leave: StopRequest) -> Iterator[Trial]:
        """Run the study until it ends, and set `ended` to the reason.

        Args:
            stopping: The stopping rule.
            leave: Set by signals that ask the study to end.

        Yields:
            Each trial as it is recorded.

        Raises:
            ProtegeError: The teacher itself cannot be measured, or many trials in a row fail for
                the same reason.
        """
        began = time.monotonic()
        while True:
            self._failures.check(has_succeeded=self._has_succeeded)
            reason = self._reason(stopping, leave, time.monotonic() - began)
            if reason:
                self._leave_behind()
            yield from self._hand_out(0 if reason else stopping.trials)
            if not self._at_work:
                break
            for event in self._events():
                yield from self._heard(event)
        self.ended = self._reason(stopping, leave, time.monotonic() - began)

    def show(self, progress: StudyProgress) -> None:
        """Show trials done, front size and hypervolume."""
        volume = self.volumes[-1] if self.volumes else 0.0
        progress.done(len(self.done), len(self.front), volume)

    def _reason(self, stopping: Stopping, leave: StopRequest, seconds: float) -> str:
        """Return why no further trial begins, or an empty string."""
        if reason := stopping.reason(self.volumes, seconds):
            return reason
        if not self._jobs and self.study.exhausted:
            return f"all {len(self.study.space)} students of the space were tried"
        return leave.reason

    @property
    def _at_work(self) -> int:
        """Number of jobs that are running."""
        return len(self._jobs) - len(self._halted) - len(self._again)

    def _hand_out(self, trials: int) -> Iterator[Trial]:
        """Submit jobs until the engine is full; yield the trials that are screened instead.

        Args:
            trials: Limit on the total number of trials. Jobs that have begun go on regardless.
        """
        if self.engine.synchronous and self._at_work:
            return
        if not self._looks(trials):
            for number in sorted(self._halted):
                if self.engine.free(number):
                    self._answer(number)
        while self.engine.free() and self._again:
            self.engine.submit(self._again.pop(min(self._again)))
        while self.engine.free() and self._begins(trials):
            trial = self._begin(looks=self._looks_on(trials))
            if trial is not None:
                yield trial

    def _looks(self, trials: int) -> bool:
        """Return whether pre-scoring is under way, during which no student is trained.

        The race then compares all pre-scored students before any training is spent.
        """
        return bool(self._ahead - self._halted.keys()) or self._looks_on(trials)

    def _looks_on(self, trials: int) -> bool:
        """Return whether another student is to be pre-scored."""
        if not self._scouts or self.teacher is None:  # scores need the teacher's
            return False
        held = sum(one.held_bytes for one in self._halted.values())
        begun = len(self.done) + len(self._jobs)
        has_room = held < self.most_held_bytes
        return begun < min(trials, self.scouted) and has_room and not self.study.exhausted

    @property
    def _scouts(self) -> bool:
        """Whether students can be scored before training."""
        distillation = self.prepared.distillation
        if self.race is None or distillation is None or not any(map(scores_rungs, self.objectives)):
            return False
        return distillation.rung_steps[0] == 0

    def _begins(self, trials: int) -> bool:
        """Return whether another trial is to begin now."""
        if len(self.done) + len(self._jobs) >= trials:
            return False
        if self.teacher is None and self._jobs:
            return False  # its outputs and latency are computed once, for all trials
        if self._looks(trials) and not self._looks_on(trials):
            return False  # finish pre-scoring first
        return not self.study.exhausted

    def _begin(self, *, looks: bool) -> Trial | None:
        """Begin the next trial; return it if it is screened or failed at once, else None."""
        with self.stopwatch.phase("propose"):
            number, architecture = self.study.ask()
        try:
            found = self._prepared(number, architecture)
        except Exception as error:
            if ends_study(error, of_teacher=architecture.key() == self._own):
                raise
            return self._told(Failure.of(error).trial(number, architecture))
        if isinstance(found, Trial):
            return self._tell(found)
        self._jobs[number] = found
        if looks:
            self._ahead.add(number)
        self.engine.submit(found)
        return None

    def _prepared(self, number: int, architecture: Architecture) -> Job | Trial:
        """Return the job of a candidate, or its trial if it is screened."""
        with self.stopwatch.phase("propose"):
            candidate = Candidate(self.prepared, architecture)
            found = screened(number, candidate, self.objectives, self.done)
        return found or Job(number, architecture)

    def _answer(self, number: int) -> None:
        """Tell the engine whether a job that waits at a rung goes on."""
        halted = self._halted.pop(number)
        self._ahead.discard(number)
        goes_on = self._judge(number).goes_on(halted.step, halted.measurements)
        self.engine.answer(number, goes_on=goes_on)

    def _leave_behind(self) -> None:
        """Drop jobs that were only pre-scored or await a retry; the next run resumes them."""
        for number in (self._ahead & self._halted.keys()) | self._again.keys():
            del self._jobs[number]
            self._halted.pop(number, None)
            self._again.pop(number, None)
            self._ahead.discard(number)

    def _events(self) -> list[Event]:
        """Wait for the next event; in synchronous mode for one of each job, by trial number."""
        with self.stopwatch.paused():  # jobs count their own time
            count = self._at_work if self.engine.synchronous else 1
            return sorted((self.engine.wait_any() for _ in range(count)), key=lambda e: e.number)

    def _heard(self, event: Event) -> Iterator[Trial]:
        """Handle an event; yield the trial if it has ended."""
        match event:
            case RungReached(number, step, measurements, _):
                self._judge(number).reached(step, measurements)
                self._halted[number] = event
            case JobFinished(trial):
                yield self._told(trial)
            case JobLost(number, reason):
                yield from self._retried(number, reason)

    def _told(self, trial: Trial) -> Trial:
        """Record a finished trial and add up its seconds."""
        if self._has_no_teacher(trial):
            error = ProtegeError(f"the teacher itself cannot be measured: {trial.reason}")
            error.add_note(trial.traceback)
            raise error
        for phase, seconds in trial.seconds.items():
            self.stopwatch.seconds[phase] += seconds
        return self._tell(trial)

    def _retried(self, number: int, reason: str) -> Iterator[Trial]:
        """Queue a job again whose worker crashed, or yield its failed trial after `ATTEMPTS`."""
        self._halted.pop(number, None)
        job = self._jobs.get(number)
        if job is None:
            return  # dropped for the next run
        if reason and self.study.add_crash(number, reason) >= ATTEMPTS:
            own, why = job.architecture, f"{ATTEMPTS} processes died over it: {reason}"
            failed = Trial(number, own.key(), own.fields(), State.FAILED, {}, reason=why)
            yield self._told(failed)
        else:
            self._again[number] = job

    def _tell(self, trial: Trial) -> Trial:
        """Record a trial, upload its weights if it joins the front, and clean up after it."""
        with self.stopwatch.phase("store"):
            trial = self._sent(trial)
            before = {one.number for one in self.front}
            self._add(trial)
            self._failures.add(trial)
            front = {one.number for one in self.front}
            self.study.tell(trial)
            self._jobs.pop(trial.number, None)
            self._ahead.discard(trial.number)
            sweep(self.folder, front, {trial.number} | (before - front))
            self._sync()
        return trial

    def _sent(self, trial: Trial) -> Trial:
        """Upload the weights of a trial that joins the front.

        Returns:
            The trial, marked failed if the upload failed.
        """
        if not self.artifacts or trial not in self.study.objectives.front([*self.front, trial]):
            return trial
        try:
            self.artifacts.put(artifact(self.folder, trial.number))
        except Exception as error:
            if ends_study(error, of_teacher=trial.key == self._own):
                raise
            return Failure.of(error).ending(trial, "its weights could not be sent")
        return trial

    def _sync(self) -> None:
        """Make the store hold exactly the weights of the front."""
        if self.artifacts:
            self.artifacts.sync(artifact(self.folder, one.number) for one in self.front)

    def _has_no_teacher(self, trial: Trial) -> bool:
        """Return whether this is the teacher's trial and it failed."""
        return trial.key == self._own and trial.state is State.FAILED

    @property
    def _has_succeeded(self) -> bool:
        """Whether any student is complete or was stopped at a rung."""
        good = (State.COMPLETE, State.STOPPED)
        return any(one.state in good and one.key != self._own for one in self.done)

    @property
    def _own(self) -> str:
        """The teacher's architecture key."""
        return self.study.space.baselines[0].key()

    def _add(self, trial: Trial) -> None:
        objectives = self.study.objectives
        self.done.append(trial)
        self.front = objectives.front([*self.front, trial])
        if trial.key == self._own and trial.state is State.COMPLETE:
            self.teacher = trial
        self.volumes.append(
            objectives.hypervolume(self.front, self.teacher) if self.teacher else 0.0
        )

    def _judge(self, number: int) -> Judge:
        """Return the judge of a candidate; baselines are never stopped."""
        never = self._jobs[number].architecture in self.study.space.baselines
        race = self.race or Race()
        return Judge(race, self.study, number, self.stopwatch, never_stops=never)
