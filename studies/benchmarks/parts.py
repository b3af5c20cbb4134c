"""Run a benchmark of several parts, or one of its parts."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping

from studies.benchmarks.figures import Figure, conclude, known

Part = Callable[..., Iterable[Figure]]
"""A function that yields figures; with ``quick`` it only checks that everything works."""


def run_parts(topic: str, about: str, parts: Mapping[str, Part]) -> None:
    """Run the parts that the command line asks for, then print and store their figures.

    A single part replaces its own figures in the file and keeps the others. A quick run has a file
    of its own.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="run a single part")
    parser.add_argument("--quick", action="store_true", help="small sizes, to check that it works")
    given = parser.parse_args()
    topic = f"{topic}-quick" if given.quick else topic
    found = known(topic) if given.only else {}
    for name in [given.only] if given.only else parts:
        begin = time.perf_counter()
        found |= {one.figure: one for one in parts[name](quick=given.quick)}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    conclude(topic, list(found.values()))
