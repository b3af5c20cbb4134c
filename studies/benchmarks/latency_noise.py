"""Time near-tied encoders repeatedly on a machine with one busy core.

Every session takes the encoders in another order, each in fresh processes. Our estimator alternates
with a reference; the seed recipe is the mean of 100 consecutive calls after 10 warm-up calls. The
true order comes from a session without load and with raised priority.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations, permutations
from statistics import mean, stdev

from protege.objectives.latency import LocalCPU, Plan, Workload
from protege.objectives.latency.timing.comparison import timed
from studies.benchmarks.encoders import NEAR_TIES, REFERENCE, Encoder
from studies.benchmarks.figures import Figure

WORKLOAD = Workload(batch_size=1, prompt_tokens=32)
SESSIONS = 4
APART = 0.10
"""Pairs with a smaller relative difference count as ties."""

SEED_PLAN = Plan(
    warm_up_rounds=0,
    warm_up_s=0.0,
    fewest_pairs=110,
    least_pairs=110,
    usual_pairs=110,
    most_pairs=110,
)
_BUSY = "while True: sum(range(10000))"

Session = Mapping[Encoder, float]


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the spread between sessions and the share of misordered pairs of both estimators."""
    encoders = NEAR_TIES[:3] if quick else NEAR_TIES
    truth = {one: ours(one, LocalCPU(priority="high")) for one in encoders}
    sessions: list[Session] = []
    naive: list[Session] = []
    seconds: list[float] = []
    with load():
        for number in range(2 if quick else SESSIONS):
            order = random.Random(number).sample(encoders, len(encoders))
            mine, theirs = dict[Encoder, float](), dict[Encoder, float]()
            for one in order:
                begin = time.perf_counter()
                mine[one] = ours(one, LocalCPU())
                seconds.append(time.perf_counter() - begin)
                theirs[one] = seed(one)
            sessions.append(mine)
            naive.append(theirs)
            print(f"session {number + 1}: {seconds[-1]:.1f} s for the last encoder", flush=True)
    yield from _compared(sessions, naive, truth)
    bar = f"at most 6; {WORKLOAD}, starts of processes included"
    yield Figure.of("seconds per candidate", seconds, "s", bar)


def _compared(
    sessions: Sequence[Session], naive: Sequence[Session], truth: Session
) -> Iterator[Figure]:
    mine, theirs = spreads(sessions), spreads(naive)
    yield Figure("spread", mean(mine), min(mine), max(mine), "", "at most 0.025; of 12 encoders")
    yield Figure("spread (seed recipe)", mean(theirs), min(theirs), max(theirs), "", "mean of 100")
    share = mean(theirs) / mean(mine)
    yield Figure("seed spread over ours", share, share, share, "", "at least 5")
    for name, found in (("", sessions), (" (seed recipe)", naive)):
        far, every = wrong(found, truth, APART), wrong(found, truth, 0.0)
        bar = "" if name else "at most 0.01"
        yield Figure(f"wrong order beyond 10%{name}", far, far, far, "", bar)
        yield Figure(f"wrong order{name}", every, every, every, "", "near-ties included")


def ours(one: Encoder, target: LocalCPU) -> float:
    """Return an encoder's time relative to the reference."""
    return timed((REFERENCE.blueprint, one.blueprint), WORKLOAD, target, Plan()).ratio()


def seed(one: Encoder) -> float:
    """Return the mean milliseconds of 100 calls after 10 warm-up calls."""
    trace = LocalCPU().trace([one.blueprint], WORKLOAD, SEED_PLAN)
    return mean(row[0].wall_ms for row in trace.rounds[10:110])


def spreads(sessions: Sequence[Session]) -> list[float]:
    """Return each encoder's standard deviation between sessions, relative to its mean."""
    found = []
    for one in sessions[0]:
        values = [session[one] for session in sessions]
        found.append(stdev(values) / mean(values))
    return found


def wrong(sessions: Sequence[Session], truth: Session, apart: float) -> float:
    """Return the share of misordered pairs, the two encoders taken from different sessions."""
    verdicts = [
        (first[one] < second[other]) != (truth[one] < truth[other])
        for one, other in combinations(truth, 2)
        if abs(truth[one] / truth[other] - 1) > apart
        for first, second in permutations(sessions, 2)
    ]
    return mean(verdicts) if verdicts else 0.0


@contextmanager
def load() -> Iterator[None]:
    """Keep one core busy."""
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as busy:
        try:
            yield
        finally:
            busy.kill()
