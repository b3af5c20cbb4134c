"""How far latency can be believed on this machine, and how that compares with a naive timer.

Five parts, each with its own figures: twelve near-tied encoders timed in other processes at other
times while a load generator keeps one core busy (``spread``); whether standard errors hold what
repeated measurements differ by (``repeatability``); the latency model on architectures
that it has not seen (``model``); the runtimes side by side (``runtimes``); and an exported student
timed by a study and by ``protege measure`` (``agreement``).
"""

import sys

from protege.search.cli.main import guarded
from studies.benchmarks import (
    latency_agreement,
    latency_learned,
    latency_noise,
    latency_repeatability,
    latency_runtimes,
)
from studies.benchmarks.parts import run_parts

PARTS = {
    "spread": latency_noise.figures,
    "repeatability": latency_repeatability.figures,
    "model": latency_learned.figures,
    "runtimes": latency_runtimes.figures,
    "agreement": latency_agreement.figures,
}


def main() -> None:
    """Measure and print."""
    run_parts("latency", __doc__, PARTS)


if __name__ == "__main__":
    sys.exit(guarded(main))
