"""The one process that owns a study: who is tried next, and what came of it."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from protege.objectives import Candidate, Latency, Objective, Retention, Stopwatch, Trained
from protege.search.evaluating import Evaluation
from protege.search.export import checkpoint, keep, sweep
from protege.search.judging import Judge
from protege.search.progress import Bar
from protege.search.racing import Race
from protege.search.screening import screened
from protege.search.stopping import ASKED_TO_LEAVE, Leaving, Stopping
from protege.search.study import Ledger
from protege.search.trial import State, Trial
from protege.search.warm import finished, warm
from protege.spaces import Architecture, ProtegeError

SCOUTED = 10
"""So many candidates are looked at as they are cut, before any is trained; most are anchors, and
what is proposed besides them could not be chosen any better if some had been trained."""

HELD_BYTES = 2 << 30
"""Weights of students that have been looked at and wait for their training; beyond, no more are."""


@dataclass
class Coordinator:
    """A study under way.

    Attributes:
        ledger: Whom to ask and to tell.
        candidate: An architecture as the search would try it.
        objectives: What candidates are judged by.
        folder: Where weights are kept.
        race: When a candidate is stopped on its way; none trains every one to the end.
        warm_start: Whether students start from finished ones they are nested in.
        stopwatch: Where time is booked that is no candidate's.
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
    warm_start: bool
    stopwatch: Stopwatch
    done: list[Trial] = field(default_factory=list, init=False)
    front: list[Trial] = field(default_factory=list, init=False)
    volumes: list[float] = field(default_factory=list, init=False)
    teacher: Trial | None = field(default=None, init=False)
    ended: str = field(default="", init=False)

    def __post_init__(self) -> None:
        for trial in self.ledger.trials():
            self._add(trial)
        # a process may have died between telling of a trial and sweeping after it
        self._sweep(self.done)

    def go_on(self, stopping: Stopping, leave: Leaving) -> Iterator[Trial]:
        """Trial after trial, each told before the next begins; then it is known why it ended.

        Raises:
            ProtegeError: The teacher itself cannot be measured.
        """
        ahead: deque[Evaluation] = deque()
        began = time.monotonic()
        while not (ended := self._ended(stopping, leave, time.monotonic() - began, len(ahead))):
            if not ahead:
                ahead = self._scouted(stopping.trials, leave)
                if leave.asked:
                    continue
            self._finish(ahead.popleft() if ahead else self._next())
            yield self.done[-1]
        self.ended = ended

    def _ended(self, stopping: Stopping, leave: Leaving, seconds: float, ahead: int) -> str:
        """Why no other trial is to begin; empty if one is."""
        if reason := stopping.reason(self.volumes, seconds):
            return reason
        if not ahead and self.ledger.exhausted:
            return f"all {len(self.ledger.space)} students of the space were tried"
        return ASKED_TO_LEAVE if leave.asked else ""

    def show(self, progress: Bar) -> None:
        """Where the study stands."""
        volume = self.volumes[-1] if self.volumes else 0.0
        progress.done(len(self.done), len(self.front), volume)

    def _next(self) -> Evaluation:
        """The evaluation of the next candidate, not begun."""
        with self.stopwatch.phase("propose"):
            number, architecture = self.ledger.ask()
        candidate = replace(
            self.candidate(architecture), checkpoint=checkpoint(self.folder, number)
        )
        candidate = self._starting(candidate)
        return Evaluation(number, candidate, self.objectives, self._judge(number, candidate))

    def _scouted(self, trials: int, leave: Leaving) -> deque[Evaluation]:
        """What is left of the first candidates, each at its first rung if that is before training.

        So a race can tell which of them are worth their training before it has spent any.
        """
        looked: deque[Evaluation] = deque()
        held = 0
        while (
            self._scouts
            and self.teacher  # before anything is compared with it
            and len(self.done) + len(looked) < min(trials, SCOUTED)
            and not self.ledger.exhausted
            and held < HELD_BYTES
            and not leave.asked
        ):
            evaluation = self._next()
            looked.append(evaluation)
            if evaluation.advance():
                held += evaluation.candidate.student.nbytes
        return looked

    @property
    def _scouts(self) -> bool:
        """Whether students can be looked at ahead; a warm start has to wait for finished ones."""
        retention = next((one for one in self.objectives if isinstance(one, Retention)), None)
        if self.race is None or self.warm_start or retention is None:
            return False
        return retention.distillation.rung_steps[0] == 0

    def _finish(self, evaluation: Evaluation) -> None:
        """One trial, to its telling; its weights are kept while it is on the front."""
        number, candidate = evaluation.number, evaluation.candidate
        latencies = [one for one in self.objectives if isinstance(one, Latency)]
        trial = screened(number, candidate, latencies, self.done) or evaluation.trial()
        if candidate.is_teacher and trial.state is State.FAILED:
            raise ProtegeError(f"the teacher itself cannot be measured: {trial.reason}")
        with self.stopwatch.phase("store"):
            self._add(trial)
            if trial in self.front:
                keep(self.folder, number, candidate)
            self.ledger.tell(trial)
            self._sweep([trial])

    def _sweep(self, told: Sequence[Trial]) -> None:
        """Remove what nobody needs: weights behind the front, trainings that have ended."""
        front = (one.number for one in self.front)
        sweep(self.folder, front, (one.number for one in told))

    def _add(self, trial: Trial) -> None:
        goals, own = self.ledger.goals, self.ledger.space.baselines[0].key()
        self.done.append(trial)
        self.front = goals.front([*self.front, trial])
        if trial.key == own and trial.state is State.COMPLETE:
            self.teacher = trial
        self.volumes.append(goals.hypervolume(self.front, self.teacher) if self.teacher else 0.0)

    def _starting(self, candidate: Candidate) -> Candidate:
        """The candidate, which may start from a student of the front where that is wanted."""
        space, teacher = self.ledger.space, candidate.teacher
        # what all others are compared with is the same in every study
        if not self.warm_start or candidate.architecture in space.baselines:
            return candidate
        stored = finished(self.folder, self.front, space, teacher)
        return replace(candidate, inherit=partial(warm, teacher, space, stored))

    def _judge(self, number: int, candidate: Candidate) -> Judge | None:
        """Who stops the candidate on its way; nobody where nothing is to be saved by it."""
        if self.race is None or not any(isinstance(one, Trained) for one in self.objectives):
            return None
        never = candidate.architecture in self.ledger.space.baselines
        return Judge(self.race, self.ledger, number, candidate.stopwatch, never_stops=never)
