"""Evaluation of one candidate: cheap objectives first, then training rung by rung."""

import contextlib
import json
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from protege.objectives import Candidate, Cost, Measurement, Objective, Rung, Trained, exceeds
from protege.search.records.failure import Failure, ends_study
from protege.search.records.trial import State, Trial
from protege.spaces import ProtegeError


@dataclass
class Evaluation:
    """The evaluation of a candidate by the objectives, from cheap to costly.

    It ends at the first exceeded limit. If the limit is on a trained objective, or the candidate is
    the teacher, the trial is complete all the same and only left out of the front.

    Attributes:
        number: The number of its trial.
        candidate: The candidate.
        objectives: The objectives.
        halts: Whether it halts at rungs.
        measurements: Measurements so far, by objective name.
        seconds: Time spent so far, by phase.
    """

    number: int
    candidate: Candidate
    objectives: Sequence[Objective]
    halts: bool = False
    measurements: dict[str, Measurement] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _rungs: dict[int, float] = field(default_factory=dict, init=False)
    _state: State = field(default=State.COMPLETE, init=False)
    _reason: str = field(default="", init=False)
    _traceback: str = field(default="", init=False)
    _at: Rung | None = field(default=None, init=False)
    _way: Generator[Rung, None, None] = field(init=False)

    def __post_init__(self) -> None:
        self._way = self._walk()

    def advance(self) -> Rung | None:
        """Continue to the next rung.

        Returns:
            The rung, or None if the evaluation is done.

        Raises:
            BadInput: The teacher's own trial cannot use an input, or a device that all trials need
                is not available.
            DiskFull: The disk is full.
        """
        with self._booked():
            self._at = next(self._way, None)
        return self._at

    def stop(self) -> None:
        """Stop at the current rung."""
        rung = self._at
        if rung is not None:
            name = next(n for n, one in self.measurements.items() if one is rung.published)
            value = rung.published.value
            self._state = State.STOPPED
            self._reason = f"beaten at step {rung.step}, with {name} {value:.4g}"
        self._end()

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
            traceback=self._traceback,
        )

    @contextmanager
    def _booked(self) -> Iterator[None]:
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
        self._at = None
        with contextlib.suppress(Exception):  # clean-up of foreign code; the outcome is known
            self._way.close()

    def _walk(self) -> Generator[Rung, None, None]:
        """Measure all missing objectives; yield each rung except the last."""
        left = [one for one in self.objectives if one.name not in self.measurements]
        for objective in sorted(left, key=_cost):
            if self.halts and isinstance(objective, Trained):
                yield from self._climb(objective, objective.rungs(self.candidate))
            else:
                self._note(objective, objective.measure(self.candidate))
            if self._is_out(objective):
                return

    def _climb(self, objective: Objective, rungs: Iterator[Rung]) -> Generator[Rung, None, None]:
        for rung in rungs:
            self._note(objective, rung.published)
            self._rungs[rung.step] = rung.measurement.value
            if not rung.is_last:
                yield rung

    def _note(self, objective: Objective, found: Measurement) -> None:
        if not math.isfinite(found.value):
            raise ProtegeError(f"{objective.name} is {found.value}, not a finite number")
        try:
            json.dumps(asdict(found))
        except (TypeError, ValueError) as error:
            raise ProtegeError(
                f"{objective.name} has a measurement that cannot be stored as JSON ({error}); "
                "give Measurement plain numbers and texts"
            ) from error
        self.measurements[objective.name] = found

    def _is_out(self, objective: Objective) -> bool:
        """Return whether an exceeded limit ends the evaluation; note any exceeded limit."""
        value = self.measurements[objective.name].value
        if not exceeds(objective, value):
            return False
        self._reason = f"{objective.name} {value:.4g} is beyond the limit {objective.limit:g}"
        if objective.cost < Cost.MINUTES and not self.candidate.is_teacher:
            self._state = State.SCREENED
            return True
        return False


def _cost(objective: Objective) -> tuple[Cost, bool]:
    return objective.cost, isinstance(objective, Trained)
