"""The worker: runs jobs in the study's process, another process or another machine."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from protege.objectives.measurement import Stage
from protege.search.engines.engine import StudyTask
from protege.search.engines.evaluating import Evaluation
from protege.search.engines.events import Announce, Job, JobFinished, RungReached
from protege.search.records.failure import Failure, ends_study
from protege.search.records.results import store_trial, store_weights
from protege.search.records.trial import State, Trial
from protege.spaces import Architecture

Result = TypeVar("Result")


@dataclass
class Worker:
    """Runs one job at a time to its next rung, and holds those that halted.

    An exception fails the job's trial, unless it concerns all trials.

    Attributes:
        task: What all jobs share.
        announce: Called with the current phase.
    """

    task: StudyTask
    announce: Announce
    _held: dict[int, Evaluation] = field(default_factory=dict, init=False)

    def begin(self, job: Job) -> RungReached | JobFinished:
        """Run a job to its first rung or to its end.

        Raises:
            BadInput: The teacher's own trial cannot use an input, or a device that all trials need
                is not available.
            DiskFull: The disk is full.
        """
        found = self._guarded(job.number, job.architecture, lambda: self._begun(job))
        return JobFinished(found) if isinstance(found, Trial) else found

    def go_on(self, number: int, *, goes_on: bool) -> RungReached | JobFinished:
        """Continue a held job to its next rung, or end it; raises as `begin` does."""
        evaluation = self._held.pop(number)
        if not goes_on:
            evaluation.stop()
        own = evaluation.candidate.architecture
        found = self._guarded(number, own, lambda: self._advanced(evaluation))
        return JobFinished(found) if isinstance(found, Trial) else found

    def measure(self, job: Job) -> Trial:
        """Measure a candidate by the objectives that need no training; raises as `begin` does."""
        return self._guarded(job.number, job.architecture, lambda: self._measured(job))

    def _measured(self, job: Job) -> Trial:
        whole = self.task.evaluation(job)
        whole.candidate.stopwatch.announce = partial(self.announce, trial=job.number)
        cheap = [one for one in whole.objectives if one.stage < Stage.STUDENT]
        return Evaluation(job.number, whole.candidate, cheap).trial()

    def _begun(self, job: Job) -> RungReached | JobFinished:
        evaluation = self.task.evaluation(job)
        evaluation.candidate.stopwatch.announce = partial(self.announce, trial=job.number)
        return self._advanced(evaluation)

    def _guarded(
        self, number: int, architecture: Architecture, work: Callable[[], Result]
    ) -> Result | Trial:
        """Return the result of the work, or the failed trial if it raises."""
        try:
            return work()
        except Exception as error:
            if self._concerns_all(error, architecture):
                raise
            return Failure.of(error).trial(number, architecture)

    def _concerns_all(self, error: Exception, architecture: Architecture) -> bool:
        return ends_study(error, of_teacher=architecture == self.task.space.baselines[0])

    def _advanced(self, evaluation: Evaluation) -> RungReached | JobFinished:
        with evaluation.candidate.stopwatch.phase("other"):
            rung = evaluation.advance()
        if rung is None:
            return self._done(evaluation)
        self._held[evaluation.number] = evaluation
        known = dict(evaluation.measurements)
        return RungReached(evaluation.number, rung.step, known, evaluation.held_bytes)

    def _done(self, evaluation: Evaluation) -> JobFinished:
        """Store record and weights, so that the result survives a crash of the study."""
        trial = evaluation.trial()
        # trials over a limit never join the front
        if trial.state is State.COMPLETE and not trial.reason:
            trial = self._stored(trial, evaluation)
        store_trial(self.task.folder, trial)
        del evaluation
        _trim_memory()
        return JobFinished(trial)

    def _stored(self, trial: Trial, evaluation: Evaluation) -> Trial:
        """Store the student's weights; return the trial, failed if that cannot be done."""
        stopwatch = evaluation.candidate.stopwatch
        before = stopwatch.snapshot()
        try:
            with stopwatch.phase("store"):
                weights = store_weights(self.task.folder, trial.number, evaluation.student)
            trial = replace(trial, weights=weights)
        except Exception as error:
            if self._concerns_all(error, evaluation.candidate.architecture):
                raise
            trial = Failure.of(error).ending(trial, "its weights could not be stored")
        return replace(trial, seconds={**trial.seconds, **stopwatch.since(before)})


def _trim_memory() -> None:
    """Return freed memory to the system; glibc keeps it, fragmented by every student."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
