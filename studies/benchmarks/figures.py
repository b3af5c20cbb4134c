"""Print the figures of a benchmark as a table, and store them as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from protege.spaces.files.atomic import write_text

FOLDER = Path("runs/benchmarks")


@dataclass(frozen=True)
class Figure:
    """One figure of a benchmark.

    Attributes:
        figure: What was measured.
        value: The median of its repetitions.
        low: The minimum.
        high: The maximum.
        unit: Its unit; empty for a ratio or a count.
        compared_with: The denominator of a ratio, or the target value.
    """

    figure: str
    value: float
    low: float
    high: float
    unit: str = ""
    compared_with: str = ""

    @classmethod
    def of(
        cls, figure: str, values: Sequence[float], unit: str = "", compared_with: str = ""
    ) -> "Figure":
        """Return the median of repetitions with their range."""
        return cls(figure, median(values), min(values), max(values), unit, compared_with)


def conclude(topic: str, figures: Sequence[Figure]) -> None:
    """Print the figures and write them to ``runs/benchmarks/<topic>.json``."""
    table = Table("figure", "value", "range", "unit", "compared with", title=topic)
    for one in figures:
        spread = "" if one.low == one.high else f"{one.low:.4g} - {one.high:.4g}"
        table.add_row(one.figure, f"{one.value:.4g}", spread, one.unit, one.compared_with)
    # without a terminal there is no width limit
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    path = FOLDER / f"{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps([asdict(one) for one in figures], indent=1) + "\n")
    print(f"Figures: {path}")


def known(topic: str) -> dict[str, Figure]:
    """Return the stored figures of a topic, by name."""
    path = FOLDER / f"{topic}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {one["figure"]: Figure(**one) for one in found}
