"""Compare one candidate with all others at a rung, by their stored values."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from protege.objectives import Measurement, Stopwatch
from protege.search.running.racing import Decision, Race, decide
from protege.search.study.study import StoredStudy


@dataclass(frozen=True)
class Judge:
    """Compares one candidate with all others at the same rung, that is at equal steps.

    Attributes:
        race: The rule.
        study: Stores the values at rungs.
        number: The candidate's trial.
        stopwatch: Counts the time.
        never_stops: Whether the candidate always goes on; true for baselines, which others are
            compared with.
    """

    race: Race
    study: StoredStudy
    number: int
    stopwatch: Stopwatch
    never_stops: bool = False

    def reached(self, step: int, measurements: Mapping[str, Measurement]) -> None:
        """Store the candidate's values at a rung, for comparison with others."""
        with self.stopwatch.phase("race"):
            self.study.store_rung(self.number, step, self._values(measurements))

    def goes_on(self, step: int, measurements: Mapping[str, Measurement]) -> bool:
        """Return whether the candidate trains on beyond a rung."""
        with self.stopwatch.phase("race"):
            objectives = [
                objective
                for objective in self.study.objectives.records
                if objective.name in measurements
            ]
            signs = np.array([objective.sign for objective in objectives])
            others = np.array(self.study.others_at_rung(self.number, step), dtype=float)
            own = np.array(self._values(measurements))
            found = decide(others.reshape(-1, len(signs)) * signs, own * signs, self.race)
        return self.never_stops or found is Decision.CONTINUE

    def _values(self, measurements: Mapping[str, Measurement]) -> list[float]:
        """Return the values that are known at a rung, in the order of the objectives."""
        names = self.study.objectives.names
        return [measurements[name].value for name in names if name in measurements]
