"""How the record of a candidate comes about: cheap objectives first, then rung by rung."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from protege.objectives import Candidate, Cost, Measurement, Objective, Rung, Trained, exceeds
from protege.search.trial import State, Trial
from protege.spaces import BadInput, DiskFull, ProtegeError


class Referee(Protocol):
    """Decides at each rung whether a candidate is trained on."""

    def reached(self, step: int, measurements: Mapping[str, Measurement]) -> None:
        """Told of all figures of a candidate at a rung that is not its last."""

    def goes_on(self, step: int, measurements: Mapping[str, Measurement]) -> bool:
        """Asked when it is to leave the rung: others may have come there in the meantime."""


@dataclass
class Evaluation:
    """A candidate on its way through the objectives.

    It ends at the first limit it is over. A limit on what only training tells is judged after the
    fact: the trial is complete, and the front leaves it out. So it is with the teacher, whatever
    limit it is over: all others are compared with it, and it costs no training.

    Attributes:
        number: The number of its trial.
        candidate: The candidate.
        objectives: What it is judged by.
        referee: Who looks at it at every rung; without one there are no rungs.
    """

    number: int
    candidate: Candidate
    objectives: Sequence[Objective]
    referee: Referee | None = None
    _measurements: dict[str, Measurement] = field(default_factory=dict, init=False)
    _rungs: dict[int, float] = field(default_factory=dict, init=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False)
    _state: State = field(default=State.COMPLETE, init=False)
    _reason: str = field(default="", init=False)
    _at: Rung | None = field(default=None, init=False)
    _way: Generator[Rung, None, None] = field(init=False)

    def __post_init__(self) -> None:
        self._way = self._walk()

    def advance(self) -> bool:
        """On to the next rung, if the referee lets it leave the one it is at.

        Returns:
            Whether it is at a rung; if not, there is nothing left to do.

        Raises:
            BadInput: What the user gave cannot be used; no other candidate would fare better.
            DiskFull: There is no room for what is to be kept.
        """
        with self._booked():
            if self._at is None or self._is_let_go(self._at):
                self._at = next(self._way, None)
            else:
                self._end()
        return self._at is not None

    def trial(self) -> Trial:
        """What came of the candidate, once all that is left to do is done.

        Raises:
            BadInput: What the user gave cannot be used; no other candidate would fare better.
            DiskFull: There is no room for what is to be kept.
        """
        while self.advance():
            pass
        own = self.candidate.architecture
        return Trial(
            number=self.number,
            key=own.key(),
            architecture=own.fields(),
            state=self._state,
            measurements=self._measurements,
            seconds=self._seconds,
            reason=self._reason,
            rungs=self._rungs,
        )

    @contextmanager
    def _booked(self) -> Iterator[None]:
        """Book the time, and take what goes wrong for the end of this candidate alone."""
        watch = self.candidate.stopwatch
        before = watch.snapshot()
        try:
            yield
        except (BadInput, DiskFull):
            raise
        except (ProtegeError, RuntimeError, MemoryError) as error:
            self._state, self._reason = State.FAILED, f"{type(error).__name__}: {error}"
            self._end()
        for phase, seconds in watch.since(before).items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def _end(self) -> None:
        self._at = None
        self._way.close()

    def _walk(self) -> Generator[Rung, None, None]:
        """Through every objective, halting at every rung that is not the last."""
        for objective in sorted(self.objectives, key=_dearness):
            if self.referee is not None and isinstance(objective, Trained):
                yield from self._climb(objective, objective.rungs(self.candidate), self.referee)
            else:
                self._note(objective, objective.measure(self.candidate))
            if self._is_out(objective):
                return

    def _climb(
        self, objective: Objective, rungs: Iterator[Rung], referee: Referee
    ) -> Generator[Rung, None, None]:
        for rung in rungs:
            self._note(objective, rung.measurement)
            self._rungs[rung.step] = rung.measurement.value
            if not rung.is_last:
                referee.reached(rung.step, self._measurements)
                yield rung

    def _note(self, objective: Objective, found: Measurement) -> None:
        if not math.isfinite(found.value):
            raise ProtegeError(f"{objective.name} is {found.value}, not a finite number")
        self._measurements[objective.name] = found

    def _is_let_go(self, rung: Rung) -> bool:
        """Whether the referee lets it leave a rung; if not, why not is noted."""
        if self.referee is None or self.referee.goes_on(rung.step, self._measurements):
            return True
        name = next(name for name, one in self._measurements.items() if one is rung.measurement)
        self._state = State.STOPPED
        self._reason = f"beaten at step {rung.step}, with {name} {rung.measurement.value:.4g}"
        return False

    def _is_out(self, objective: Objective) -> bool:
        """Whether it is over a limit that spares it what is dearer; what limit is noted."""
        value = self._measurements[objective.name].value
        if not exceeds(objective, value):
            return False
        self._reason = f"{objective.name} {value:.4g} is beyond the limit {objective.limit:g}"
        if objective.cost < Cost.MINUTES and not self.candidate.is_teacher:
            self._state = State.SCREENED
            return True
        return False


def _dearness(objective: Objective) -> tuple[Cost, bool]:
    return objective.cost, isinstance(objective, Trained)


def evaluate(
    number: int,
    candidate: Candidate,
    objectives: Sequence[Objective],
    referee: Referee | None = None,
) -> Trial:
    """Measure a candidate from beginning to end; see `Evaluation`."""
    return Evaluation(number, candidate, objectives, referee).trial()
