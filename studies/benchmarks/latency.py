"""How far latency can be believed on this machine, and how that compares with a naive timer.

Four parts, each with its own figures: twelve near-tied encoders timed in other processes at other
times while a load generator keeps one core busy (``spread``); the latency model on architectures
that it has not seen (``model``); the runtimes side by side (``runtimes``); and an exported student
timed by a study and by ``protege measure`` (``agreement``). One part alone renews its own figures
and leaves the others' in the file as they are.
"""

import argparse
import sys
import time

from protege.search.cli import guarded
from studies.benchmarks import latency_agreement, latency_learned, latency_noise, latency_runtimes
from studies.benchmarks.figures import conclude, known

PARTS = {
    "spread": latency_noise.figures,
    "model": latency_learned.figures,
    "runtimes": latency_runtimes.figures,
    "agreement": latency_agreement.figures,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    given = parser.parse_args()
    topic = "latency-quick" if given.quick else "latency"
    found = known(topic) if given.only else {}
    for name in [given.only] if given.only else PARTS:
        begin = time.perf_counter()
        found |= {one.figure: one for one in PARTS[name](quick=given.quick)}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    conclude(topic, list(found.values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
