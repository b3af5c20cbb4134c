"""Works on jobs, wherever it is: a study's own process, another one, another machine."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from protege.objectives import Cost
from protege.search.engines.engine import AtRung, Done, Job
from protege.search.engines.task import Task
from protege.search.evaluating import Evaluation
from protege.search.results import keep, record
from protege.search.trial import State, Trial


@dataclass
class Worker:
    """Takes one job at a time to its next halt; those that have halted are held.

    Attributes:
        task: What they have in common.
        announce: Told what is going on.
    """

    task: Task
    announce: Callable[[str], None]
    _held: dict[int, Evaluation] = field(default_factory=dict, init=False)

    def begin(self, job: Job) -> AtRung | Done:
        """Begin a job, and go on to its first halt.

        Raises:
            BadInput: What the user gave cannot be used; no other candidate would fare better.
            DiskFull: There is no room for what is to be kept.
        """
        evaluation = self.task.evaluation(job)
        evaluation.candidate.stopwatch.announce = self.announce
        return self._advanced(evaluation)

    def go_on(self, number: int, *, goes_on: bool) -> AtRung | Done:
        """Go on with a job that is held to its next halt, or end it; raises as `begin` does."""
        evaluation = self._held.pop(number)
        if not goes_on:
            evaluation.stop()
        return self._advanced(evaluation)

    def measure(self, job: Job) -> Trial:
        """What is known of a job's candidate before any training; raises as `begin` does."""
        whole = self.task.evaluation(job)
        whole.candidate.stopwatch.announce = self.announce
        cheap = [one for one in whole.objectives if one.cost < Cost.MINUTES]
        return Evaluation(job.number, whole.candidate, cheap).trial()

    def _advanced(self, evaluation: Evaluation) -> AtRung | Done:
        with evaluation.candidate.stopwatch.phase("other"):
            rung = evaluation.advance()
        if rung is None:
            return self._done(evaluation)
        self._held[evaluation.number] = evaluation
        known, held_bytes = dict(evaluation.measurements), evaluation.candidate.held_bytes
        return AtRung(evaluation.number, rung.step, known, held_bytes)

    def _done(self, evaluation: Evaluation) -> Done:
        """The job's end: whoever asked for it may die now, and nothing is lost."""
        trial, candidate = evaluation.trial(), evaluation.candidate
        # over a limit it is on no front
        if trial.state is State.COMPLETE and not trial.reason:
            before = candidate.stopwatch.snapshot()
            with candidate.stopwatch.phase("store"):
                weights = keep(self.task.folder, trial.number, candidate)
            seconds = {**trial.seconds, **candidate.stopwatch.since(before)}
            trial = replace(trial, seconds=seconds, weights=weights)
        record(self.task.folder, trial)
        del candidate, evaluation
        _give_back()
        return Done(trial)


def _give_back() -> None:
    """Return to the system what was freed: glibc keeps it, in more pieces with every student."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
