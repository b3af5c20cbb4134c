"""Who stops a candidate at a rung: its figures are stored, then compared with the others' there."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from protege.objectives import Measurement, Stopwatch
from protege.search.racing import Decision, Race, decide
from protege.search.study import Ledger


@dataclass(frozen=True)
class Judge:
    """Compares one candidate with all that were at the same rung, at equal steps only.

    Attributes:
        race: When it is stopped.
        ledger: Where figures at rungs are stored, before they are compared.
        number: The candidate's trial.
        stopwatch: Where the time is booked.
        never_stops: Whether it goes on whatever it is worth, as baselines do: others are compared
            with what they reach.
    """

    race: Race
    ledger: Ledger
    number: int
    stopwatch: Stopwatch
    never_stops: bool = False

    def reached(self, step: int, measurements: Mapping[str, Measurement]) -> None:
        """Store what the candidate is worth at a rung: others are compared with it from now on."""
        with self.stopwatch.phase("race"):
            self.ledger.note(self.number, step, self._values(measurements))

    def goes_on(self, step: int, measurements: Mapping[str, Measurement]) -> bool:
        """Whether the candidate is trained on beyond a rung."""
        goals = self.ledger.goals.goals
        with self.stopwatch.phase("race"):
            signs = np.array([goal.sign for goal in goals])
            others = np.array(self.ledger.others(self.number, step), dtype=float)
            own = np.array(self._values(measurements))
            found = decide(others.reshape(-1, len(signs)) * signs, own * signs, self.race)
        return self.never_stops or found is Decision.CONTINUE

    def _values(self, measurements: Mapping[str, Measurement]) -> list[float]:
        return [measurements[name].value for name in self.ledger.goals.names]
