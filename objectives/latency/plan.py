"""How long to measure: every number of the policy, in one place."""

import math
from dataclasses import dataclass, replace

SAMPLES = {50: 11, 90: 64, 95: 130, 99: 662}
"""Calls that a percentile needs to be told at all: MLPerf Inference's early-stopping estimate with
99 % confidence and none above it."""


@dataclass(frozen=True)
class Plan:
    """When a measurement has seen enough.

    A pair is one call of the reference and one of the candidate. Each process warms up, then takes
    pairs until the 95 % interval of their median ratio is narrow or its seconds are spent. What
    calls cost decides which comes first: at 30 ms a call the interval does; at 1.5 s a call the
    seconds do, and three to five pairs must be enough, as a call that long averages the noise.
    The interval of one process promises too much (placement in memory differs between processes by
    1.6-4.2 %), so that its width only stops the taking of pairs; the spread that is reported comes
    from comparing processes.

    Attributes:
        warm_up_rounds: Calls of each model before the first that counts.
        warm_up_s: Seconds of warming up, at least; after twice as long the rounds count no more.
        warm_up_tokens: New tokens of a warming call, at most: the steps are all alike.
        least_pairs: Pairs of a process whose calls are slow.
        usual_pairs: Pairs before a narrow interval may end a process.
        most_pairs: Pairs after which a process ends.
        check_every: Pairs between two looks at the interval.
        half_width: Half the width of a narrow interval, relative to the median.
        pairs_s: Seconds of pairs after which a process ends, once it has the least of them.
        agree_within: Two processes that differ by less, relatively, are enough.
        differ_beyond: Three processes that differ by more, relatively, are not.
        candidate_s: Seconds a candidate, starts included: no further process begins that would
            pass them, and two that would pass them by themselves stop at `fewest_pairs`.
        fewest_pairs: Pairs of a process whose calls are so slow that it would pass its share.
        back_off_s: Pauses before measuring again what noise has spoilt.
        deadline_s: Seconds after which a process counts as hung and is killed.
        cool_down_s: Pause before measuring again what a hot or slowed device has spoilt.
        sustained_s: Seconds of load that a process takes pairs for, whatever the interval, to see
            what a device does once it is hot; 0 for as few as will do.
    """

    warm_up_rounds: int = 3
    warm_up_s: float = 0.5
    warm_up_tokens: int = 4
    least_pairs: int = 5
    usual_pairs: int = 15
    most_pairs: int = 100
    check_every: int = 5
    half_width: float = 0.025
    pairs_s: float = 1.0
    agree_within: float = 0.025
    differ_beyond: float = 0.08
    candidate_s: float = 30.0
    fewest_pairs: int = 3
    back_off_s: tuple[float, ...] = (2.0, 8.0)
    deadline_s: float = 900.0
    cool_down_s: float = 10.0
    sustained_s: float = 0.0

    @property
    def process_s(self) -> float:
        """Seconds that one process may take: two of them make a measurement."""
        return self.candidate_s / 2

    def with_samples(self, percentile: int) -> "Plan":
        """As long as that percentile needs: two processes have the samples for it between them."""
        if percentile == 50:
            return self
        pairs = math.ceil(SAMPLES[percentile] / 2)
        return replace(
            self,
            fewest_pairs=max(self.fewest_pairs, pairs),
            least_pairs=max(self.least_pairs, pairs),
            usual_pairs=max(self.usual_pairs, pairs),
            most_pairs=max(self.most_pairs, pairs),
        )
