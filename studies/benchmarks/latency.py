"""Measure how reliable latencies are on this machine, compared with a naive timer.

Five parts: twelve near-tied encoders timed in different processes at different times while a load
generator keeps one core busy (``spread``); whether standard errors cover the differences between
repeated measurements (``repeatability``); the latency model on unseen architectures (``model``);
a comparison of runtimes (``runtimes``); and an exported student timed by a study and by ``protege
measure`` (``agreement``).
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
