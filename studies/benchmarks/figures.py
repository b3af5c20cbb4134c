"""How a benchmark ends: a table for people, and the same figures for programs."""

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
        value: The figure.
        low: The least of its repetitions.
        high: The most of them.
        unit: Its unit; empty for a ratio or a count.
        compared_with: What it is a ratio to, or what bar it is held against.
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
        """The median of repetitions with their range."""
        return cls(figure, median(values), min(values), max(values), unit, compared_with)


def conclude(topic: str, figures: Sequence[Figure]) -> None:
    """Print the figures, and write them to ``runs/benchmarks/<topic>.json``."""
    table = Table("figure", "value", "range", "unit", "compared with", title=topic)
    for one in figures:
        spread = "" if one.low == one.high else f"{one.low:.4g} - {one.high:.4g}"
        table.add_row(one.figure, f"{one.value:.4g}", spread, one.unit, one.compared_with)
    # as wide as it needs to be where nobody's window bounds it
    Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
    path = FOLDER / f"{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps([asdict(one) for one in figures], indent=1) + "\n")
    print(f"Figures: {path}")


def known(topic: str) -> dict[str, Figure]:
    """The figures that a topic's file has, by name."""
    path = FOLDER / f"{topic}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {one["figure"]: Figure(**one) for one in found}
