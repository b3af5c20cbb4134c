"""A benchmark of several parts, of which one alone can be run."""

import argparse
import time
from collections.abc import Callable, Iterable, Mapping

from studies.benchmarks.figures import Figure, conclude, known

Part = Callable[..., Iterable[Figure]]
"""Gives its figures; takes ``quick``, which asks for a little of everything."""


def run_parts(topic: str, about: str, parts: Mapping[str, Part]) -> None:
    """Measure and print what the command line asks for.

    One part alone renews its own figures and leaves the others' in the file as they are; a quick
    run, which is there to see that all works, has a file of its own.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--only", choices=parts, help="one part alone")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    given = parser.parse_args()
    topic = f"{topic}-quick" if given.quick else topic
    found = known(topic) if given.only else {}
    for name in [given.only] if given.only else parts:
        begin = time.perf_counter()
        found |= {one.figure: one for one in parts[name](quick=given.quick)}
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    conclude(topic, list(found.values()))
