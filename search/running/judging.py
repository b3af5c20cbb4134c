"""Compare one candidate with all others at a rung, by their stored values."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from protege.objectives import Measurement, Stopwatch
from protege.search.running.racing import Decision, Race, decide
from protege.search.study.ledger import Ledger


@dataclass(frozen=True)
class Judge:
    """Compares one candidate with all others at the same rung, that is at equal steps.

    Attributes:
        race: The rule.
        ledger: Stores the values at rungs.
        number: The candidate's trial.
        stopwatch: Counts the time.
        never_stops: Whether the candidate always goes on; true for baselines, which others are
            compared with.
    """

    race: Race
    ledger: Ledger
    number: int
    stopwatch: Stopwatch
    never_stops: bool = False

    def reached(self, step: int, measurements: Mapping[str, Measurement]) -> None:
        """Store the candidate's values at a rung, for comparison with others."""
        with self.stopwatch.phase("race"):
            self.ledger.note(self.number, step, self._values(measurements))

    def goes_on(self, step: int, measurements: Mapping[str, Measurement]) -> bool:
        """Return whether the candidate trains on beyond a rung."""
        with self.stopwatch.phase("race"):
            goals = [goal for goal in self.ledger.goals.goals if goal.name in measurements]
            signs = np.array([goal.sign for goal in goals])
            others = np.array(self.ledger.others(self.number, step), dtype=float)
            own = np.array(self._values(measurements))
            found = decide(others.reshape(-1, len(signs)) * signs, own * signs, self.race)
        return self.never_stops or found is Decision.CONTINUE

    def _values(self, measurements: Mapping[str, Measurement]) -> list[float]:
        """Return the values that are known at a rung, in the order of the goals."""
        names = self.ledger.goals.names
        return [measurements[name].value for name in names if name in measurements]
