"""What is timed and for how long: `Workload`, the size of a call, and `Plan`."""

import math
from dataclasses import dataclass, replace

from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput

SAMPLES = {50: 11, 90: 64, 95: 130, 99: 662}
"""Calls that each percentile needs: MLPerf Inference's early-stopping estimate at 99 % confidence,
with no call above the percentile."""


@checks_fields
@dataclass(frozen=True)
class Workload:
    """The size of one call.

    With ``new_tokens=0`` a call is one forward pass over the prompt. Otherwise it is a prefill of
    the prompt and `new_tokens` greedy decoding steps of one token each, with the model's KV cache.

    Attributes:
        batch_size: Sequences per call.
        prompt_tokens: Prompt tokens per sequence.
        new_tokens: Tokens generated per sequence; 0 for encoders.

    Raises:
        BadInput: A size is not an integer, or is too small.
    """

    batch_size: int = 1
    prompt_tokens: int = 128
    new_tokens: int = 0

    def __post_init__(self) -> None:
        _check("batch_size", self.batch_size, least=1)
        _check("prompt_tokens", self.prompt_tokens, least=1)
        _check("new_tokens", self.new_tokens, least=0)

    def __str__(self) -> str:
        more = f" + {self.new_tokens}" if self.new_tokens else ""
        return f"{self.batch_size} x {self.prompt_tokens}{more} tokens"


@dataclass(frozen=True)
class Plan:
    """The stopping rules of a latency measurement.

    A pair is one call of the reference and one of the candidate. Each process warms up, then takes
    pairs until the 95 % confidence interval of their median ratio is narrow or its time is up. At
    30 ms per call the interval ends it; at 1.5 s per call the time does, after three to five pairs,
    which suffice because long calls average out the noise. The interval within one process is too
    optimistic (memory placement differs between processes by 1.6-4.2 %, which more pairs do not
    reduce), so it only stops the process; the reported spread compares processes.

    Attributes:
        warm_up_rounds: Warm-up calls of each model.
        warm_up_s: Minimum seconds of warm-up; after twice as long it ends in any case.
        warm_up_tokens: Maximum new tokens of a warm-up call.
        least_pairs: Minimum pairs before `pairs_s` may end a process.
        usual_pairs: Minimum pairs before a narrow interval may end a process.
        most_pairs: Maximum pairs of a process.
        check_every: Pairs between two checks of the stopping rules.
        half_width: Half-width of a narrow interval, relative to the median.
        pairs_s: Seconds of pairs after which a process ends, given `least_pairs`.
        agree_within: Relative difference below which two processes are enough; the difference that
            memory placement makes.
        differ_beyond: Relative difference above which three processes are not enough.
        candidate_s: Time limit of a candidate in seconds, process starts included. No third
            process starts that would exceed it; each of the first two gets half.
        fewest_pairs: Minimum pairs of a process that would exceed its half of `candidate_s`.
        back_off_s: Pauses in seconds before repeating a measurement spoilt by noise.
        deadline_s: Seconds after which a process counts as hung and is killed.
        cool_down_s: Pause in seconds before repeating a measurement on a throttled device.
        sustained_s: Seconds for which a process takes pairs regardless of the interval, to measure
            a hot device; 0 to stop early.
    """

    warm_up_rounds: int = 3
    warm_up_s: float = 0.25
    warm_up_tokens: int = 4
    least_pairs: int = 5
    usual_pairs: int = 10
    most_pairs: int = 100
    check_every: int = 5
    half_width: float = 0.025
    pairs_s: float = 1.0
    agree_within: float = 0.04
    differ_beyond: float = 0.08
    candidate_s: float = 30.0
    fewest_pairs: int = 3
    back_off_s: tuple[float, ...] = (2.0, 8.0)
    deadline_s: float = 900.0
    cool_down_s: float = 10.0
    sustained_s: float = 0.0

    @property
    def process_s(self) -> float:
        """Time limit of one process in seconds: half of `candidate_s`."""
        return self.candidate_s / 2

    def with_samples(self, percentile: int) -> "Plan":
        """Return a plan in which two processes together take enough calls for `percentile`."""
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


def _check(name: str, size: object, *, least: int) -> None:
    # bool is a subclass of int
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, not {size!r}")
