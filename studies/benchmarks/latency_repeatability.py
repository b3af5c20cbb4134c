"""Test whether standard errors cover the differences between repeated latency measurements.

Each encoder is timed against the reference in twelve fresh processes. Two or three consecutive
processes form a measurement, as in a study; 95 % of measurements of one encoder should differ by
less than 1.96 combined standard errors. The floor of the standard error is chosen by this.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import mean, stdev

from protege.objectives.latency import LocalCPU, Plan, Workload
from protege.objectives.latency.timing.timing import (
    LEAST_SPREAD,
    Combined,
    combine,
    process_value,
)
from studies.benchmarks.encoders import NEAR_TIES, REFERENCE, Encoder
from studies.benchmarks.figures import Figure

PROCESSES = 12
CASES = [(NEAR_TIES[place], tokens) for tokens in (32, 128) for place in (0, 3, 4, 9)]

Values = Sequence[float]


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the deviation between processes and the coverage of the standard errors."""
    cases, processes = (CASES[:2], 6) if quick else (CASES, PROCESSES)
    # in rounds, so that the processes of one encoder are minutes apart
    rounds = [[_traced(*case) for case in cases] for _ in range(processes)]
    for number, clock in enumerate(("wall", "processor")):
        ratios = [[both[number] for both in of_case] for of_case in zip(*rounds, strict=True)]
        deviations = [stdev(values) / mean(values) for values in ratios]
        yield Figure.of(f"deviation between processes ({clock})", deviations)
        for size in (2, 3):
            made = [_measurements(values, size) for values in ratios]
            for floor in (0.0, LEAST_SPREAD):
                share = covered(made, floor)
                name = f"within 1.96 errors, {size} processes, floor {floor:.1%} ({clock})"
                yield Figure(name, share, share, share, "", "0.95")


def covered(made: Sequence[Sequence[Combined]], floor: float) -> float:
    """Return the share of pairs of measurements within 1.96 combined standard errors.

    Args:
        made: The measurements of each model.
        floor: The floor of the relative standard error.
    """
    held = [
        abs(math.log(one.value / other.value))
        < 1.96 * math.hypot(max(one.deviation, floor), max(other.deviation, floor))
        for of_model in made
        for one, other in combinations(of_model, 2)
    ]
    return mean(held)


def _measurements(values: Values, size: int) -> list[Combined]:
    starts = range(0, len(values) - size + 1, size)
    return [combine(values[start : start + size]) for start in starts]


def _traced(one: Encoder, tokens: int) -> tuple[float, float]:
    """Return one process's ratio to the reference in wall time and in processor time."""
    models = [REFERENCE.blueprint, one.blueprint]
    trace = LocalCPU().trace(models, Workload(prompt_tokens=tokens), Plan())
    return (
        process_value(trace, lambda sample: sample.wall_ms, on_cpu=False),
        process_value(trace, lambda sample: sample.cpu_ms, on_cpu=True),
    )
