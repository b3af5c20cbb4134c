"""The one process that owns a study: who is tried next, and what came of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protege.objectives import Candidate, Latency, Objective, Retention, Stopwatch
from protege.search.engines.engine import AtRung, Died, Done, Engine, Event, Job
from protege.search.progress import Bar
from protege.search.records.failure import Failure, Streak, ends_study
from protege.search.records.results import artifact, clear, recorded, sweep
from protege.search.records.trial import State, Trial
from protege.search.running.racing import Judge, Race
from protege.search.running.screening import screened
from protege.search.running.stopping import Leaving, Stopping
from protege.search.study.artifacts import Artifacts
from protege.search.study.ledger import Ledger
from protege.spaces import Architecture, ProtegeError

SCOUTED = 10
"""So many candidates are looked at as they are cut, before any is trained; most are anchors, and
what is proposed besides them could not be chosen any better if some had been trained."""

HELD_BYTES = 2 << 30
"""Weights of students that have been looked at and wait for their training; beyond, no more are."""

ATTEMPTS = 5
"""So many processes may die over a job before its trial has failed."""


@dataclass
class Coordinator:
    """A study under way.

    Attributes:
        ledger: Whom to ask and to tell.
        candidate: An architecture as the search would try it.
        objectives: What candidates are judged by.
        folder: Where weights are kept.
        race: When a candidate is stopped on its way; none trains every one to the end.
        stopwatch: Where time is booked that is no candidate's.
        engine: Who does the jobs.
        artifacts: The store that weights are sent to as well, if there is one.
        done: The trials that were told, in order.
        front: Those of them that no other one beats.
        volumes: The hypervolume after each of them.
        teacher: The teacher's own of them.
        ended: Why it went on no longer.
    """

    ledger: Ledger
    candidate: Callable[[Architecture], Candidate]
    objectives: Sequence[Objective]
    folder: Path
    race: Race | None
    stopwatch: Stopwatch
    engine: Engine
    artifacts: Artifacts | None = None
    done: list[Trial] = field(default_factory=list, init=False)
    front: list[Trial] = field(default_factory=list, init=False)
    volumes: list[float] = field(default_factory=list, init=False)
    teacher: Trial | None = field(default=None, init=False)
    ended: str = field(default="", init=False)
    _jobs: dict[int, Job] = field(default_factory=dict, init=False)
    """Begun and not told."""
    _halted: dict[int, AtRung] = field(default_factory=dict, init=False)
    """Those of them that wait to be gone on with."""
    _again: dict[int, Job] = field(default_factory=dict, init=False)
    """Those of them that are to be begun once more, for their process died."""
    _ahead: set[int] = field(default_factory=set, init=False)
    """Those of them that are looked at before any is trained."""
    _streak: Streak = field(default_factory=Streak, init=False)
    """The last trials of this run that failed alike."""

    def __post_init__(self) -> None:
        for number, key in self.ledger.unfinished():
            found = recorded(self.folder, number, key)
            # done, and whoever was to tell of it died; a teacher that failed ended the study
            if found is not None and not self._has_no_teacher(found):
                self.ledger.tell(found)
        for trial in self.ledger.trials():
            self._add(trial)
        front = [one.number for one in self.front]
        sweep(self.folder, front, [one.number for one in self.done])
        clear(self.folder, front, self.ledger.numbers())
        self._sync()

    def go_on(self, stopping: Stopping, leave: Leaving) -> Iterator[Trial]:
        """Trial after trial as they are told; then it is known why it ended.

        Raises:
            ProtegeError: The teacher itself cannot be measured, or many trials in a row fail for
                the same reason.
        """
        began = time.monotonic()
        while True:
            self._streak.check(has_succeeded=self._has_succeeded)
            reason = self._reason(stopping, leave, time.monotonic() - began)
            if reason:
                self._leave_behind()
            yield from self._hand_out(0 if reason else stopping.trials)
            if not self._at_work:
                break
            for event in self._events():
                yield from self._heard(event)
        self.ended = self._reason(stopping, leave, time.monotonic() - began)

    def show(self, progress: Bar) -> None:
        """Where the study stands."""
        volume = self.volumes[-1] if self.volumes else 0.0
        progress.done(len(self.done), len(self.front), volume)

    def _reason(self, stopping: Stopping, leave: Leaving, seconds: float) -> str:
        """Why no other trial is to begin; empty if one is."""
        if reason := stopping.reason(self.volumes, seconds):
            return reason
        if not self._jobs and self.ledger.exhausted:
            return f"all {len(self.ledger.space)} students of the space were tried"
        return leave.reason

    @property
    def _at_work(self) -> int:
        """How many jobs are worked on."""
        return len(self._jobs) - len(self._halted) - len(self._again)

    def _hand_out(self, trials: int) -> Iterator[Trial]:
        """Give the engine all it has room for; what is screened is told at once.

        Args:
            trials: So many may there be in all; those that have begun go on whatever it is.
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
        """Whether students are looked at, and none is trained yet, for some have to come first.

        So a race can tell which of them are worth their training before it has spent any.
        """
        return bool(self._ahead - self._halted.keys()) or self._looks_on(trials)

    def _looks_on(self, trials: int) -> bool:
        """Whether another student is to be looked at."""
        if not self._scouts or self.teacher is None:  # all are compared with it
            return False
        held = sum(one.held_bytes for one in self._halted.values())
        begun = len(self.done) + len(self._jobs)
        return begun < min(trials, SCOUTED) and held < HELD_BYTES and not self.ledger.exhausted

    @property
    def _scouts(self) -> bool:
        """Whether students can be looked at ahead of their training."""
        retention = next((one for one in self.objectives if isinstance(one, Retention)), None)
        if self.race is None or retention is None:
            return False
        return retention.distillation.rung_steps[0] == 0

    def _begins(self, trials: int) -> bool:
        """Whether another trial is to begin now."""
        if len(self.done) + len(self._jobs) >= trials:
            return False
        if self.teacher is None and self._jobs:
            return False  # what it answers and how long it takes is computed once, for all
        if self._looks(trials) and not self._looks_on(trials):
            return False  # those that are looked at come first
        return not self.ledger.exhausted

    def _begin(self, *, looks: bool) -> Trial | None:
        """Begin the next trial; it is told if it is screened."""
        with self.stopwatch.phase("propose"):
            number, architecture = self.ledger.ask()
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
            latencies = [one for one in self.objectives if isinstance(one, Latency)]
            found = screened(number, self.candidate(architecture), latencies, self.done)
        return found or Job(number, architecture)

    def _answer(self, number: int) -> None:
        """Go on with a job that has halted, or end it."""
        halted = self._halted.pop(number)
        self._ahead.discard(number)
        goes_on = self._judge(number).goes_on(halted.step, halted.measurements)
        self.engine.answer(number, goes_on=goes_on)

    def _leave_behind(self) -> None:
        """Leave to another run whoever was only looked at, or is to be begun once more."""
        for number in (self._ahead & self._halted.keys()) | self._again.keys():
            del self._jobs[number]
            self._halted.pop(number, None)
            self._again.pop(number, None)
            self._ahead.discard(number)

    def _events(self) -> list[Event]:
        """What happens next; where all have to come to a halt, what happens to each, in order."""
        with self.stopwatch.paused():  # whoever does the jobs books their time
            count = self._at_work if self.engine.synchronous else 1
            return sorted((self.engine.wait_any() for _ in range(count)), key=lambda e: e.number)

    def _heard(self, event: Event) -> Iterator[Trial]:
        """Take note of an event; a trial that has ended is told."""
        match event:
            case AtRung(number, step, measurements, _):
                self._judge(number).reached(step, measurements)
                self._halted[number] = event
            case Done(trial):
                yield self._told(trial)
            case Died(number, reason):
                yield from self._retried(number, reason)

    def _told(self, trial: Trial) -> Trial:
        """Tell of a job that is done, and book what it took."""
        if self._has_no_teacher(trial):
            error = ProtegeError(f"the teacher itself cannot be measured: {trial.reason}")
            error.add_note(trial.traceback)
            raise error
        for phase, seconds in trial.seconds.items():
            self.stopwatch.seconds[phase] += seconds
        return self._tell(trial)

    def _retried(self, number: int, reason: str) -> Iterator[Trial]:
        """Begin a job anew whose process died, unless too many did over it."""
        self._halted.pop(number, None)
        job = self._jobs.get(number)
        if job is None:
            return  # it was only looked at, and left to another run
        if reason and self.ledger.died(number, reason) >= ATTEMPTS:
            own, told = job.architecture, f"{ATTEMPTS} processes died over it: {reason}"
            failed = Trial(number, own.key(), own.fields(), State.FAILED, {}, reason=told)
            yield self._told(failed)
        else:
            self._again[number] = job

    def _tell(self, trial: Trial) -> Trial:
        """Tell of a trial; its weights are kept while it is on the front."""
        with self.stopwatch.phase("store"):
            trial = self._sent(trial)
            before = {one.number for one in self.front}
            self._add(trial)
            self._streak.add(trial)
            front = {one.number for one in self.front}
            self.ledger.tell(trial)
            self._jobs.pop(trial.number, None)
            self._ahead.discard(trial.number)
            sweep(self.folder, front, {trial.number} | (before - front))
            self._sync()
        return trial

    def _sent(self, trial: Trial) -> Trial:
        """Send the weights to the store if they join the front; return the trial, maybe failed."""
        if not self.artifacts or trial not in self.ledger.goals.front([*self.front, trial]):
            return trial
        try:
            self.artifacts.put(artifact(self.folder, trial.number))
        except Exception as error:
            if ends_study(error, of_teacher=trial.key == self._own):
                raise
            return Failure.of(error).ending(trial, "its weights could not be sent")
        return trial

    def _sync(self) -> None:
        """Let the store hold the weights of the front, and no others."""
        if self.artifacts:
            self.artifacts.sync(artifact(self.folder, one.number) for one in self.front)

    def _has_no_teacher(self, trial: Trial) -> bool:
        """Whether it is the teacher, and could not be measured: nothing can be compared with it."""
        return trial.key == self._own and trial.state is State.FAILED

    @property
    def _has_succeeded(self) -> bool:
        """Whether any student was measured to the end, or as far as it was worth it."""
        good = (State.COMPLETE, State.STOPPED)
        return any(one.state in good and one.key != self._own for one in self.done)

    @property
    def _own(self) -> str:
        """The key of the teacher itself."""
        return self.ledger.space.baselines[0].key()

    def _add(self, trial: Trial) -> None:
        goals = self.ledger.goals
        self.done.append(trial)
        self.front = goals.front([*self.front, trial])
        if trial.key == self._own and trial.state is State.COMPLETE:
            self.teacher = trial
        self.volumes.append(goals.hypervolume(self.front, self.teacher) if self.teacher else 0.0)

    def _judge(self, number: int) -> Judge:
        """Who stops the candidate on its way."""
        never = self._jobs[number].architecture in self.ledger.space.baselines
        race = self.race or Race()
        return Judge(race, self.ledger, number, self.stopwatch, never_stops=never)
