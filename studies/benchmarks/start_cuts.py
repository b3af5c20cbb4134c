"""Cuts of a teacher, the choices that each can be made by, and what the students are worth."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from rich.console import Console

from protege.spaces import Architecture, Calibration, First, Student, Teacher, Uniform
from protege.spaces.architecture.policies import Healing, LayerPolicy, WidthPolicy
from studies.benchmarks.figures import Figure

UNITS = {"KL": "nats"}
"""Of those scores that have one."""


@dataclass(frozen=True)
class Choice:
    """How a student is cut and healed."""

    layers: LayerPolicy
    widths: WidthPolicy
    healing: Healing


@dataclass(frozen=True)
class Cut:
    """What a student has less of, and the choices that are compared.

    Attributes:
        name: Of the cut.
        ratios: Of the teacher's sizes.
        choices: The first is the recipe that most guides give.
        figure: What the best choice is reported as; empty for a cut without a figure of its own.
        bar: What that is held against.
        by: Which of the scores choices are compared by.
    """

    name: str
    ratios: Mapping[str, float]
    choices: tuple[Choice, ...]
    figure: str = ""
    bar: str = ""
    by: int = 0

    def architecture(self, teacher: Teacher, choice: Choice) -> Architecture:
        """The student that is cut by a choice."""
        ratios: Any = self.ratios
        return teacher.architecture.scaled(
            **ratios,
            layer_policy=choice.layers,
            width_policy=choice.widths,
            healing=choice.healing,
        )

    def label(self, choice: Choice) -> str:
        """The policies that have something to choose, and the healing."""
        deep, wide = "layers" in self.ratios, bool(set(self.ratios) - {"layers"})
        parts = [choice.layers.name] * deep + [choice.widths.name] * wide
        return ", ".join(parts + [choice.healing] * (choice.healing != "none"))


def choices(
    layers: Iterable[LayerPolicy] = (Uniform(),),
    widths: Iterable[WidthPolicy] = (First(),),
    healing: Iterable[Healing] = ("none",),
) -> tuple[Choice, ...]:
    """Every layer policy with every width policy and every way of healing."""
    return tuple(Choice(*one) for one in product(layers, widths, healing))


@dataclass(frozen=True)
class Row:
    """One student.

    Attributes:
        cut: What was cut.
        choice: How, in words.
        seconds: What the student took to build, given the calibration.
        scores: What it is worth, by name.
    """

    cut: Cut
    choice: str
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """A teacher, what is known of its units, and how students of it are judged.

    Attributes:
        teacher: The teacher.
        calibration: Its own.
        score: The scores of a student; the first two are reported.
        best: Whether the best of a cut's students has least of a score or most.
    """

    teacher: Teacher
    calibration: Calibration
    score: Callable[[Student], Mapping[str, float]]
    best: Callable[[Iterable[float]], float]

    def figures(self, cuts: Iterable[Cut], *, quick: bool) -> Iterator[Figure]:
        """The figure of every cut with one, and the scores of every student."""
        for cut in cuts:
            rows = list(self.rows(cut, quick=quick))
            if cut.figure:
                yield self._best(cut, rows)
            yield from self.reported(rows)

    def rows(self, cut: Cut, *, quick: bool = False) -> Iterator[Row]:
        """The students of a cut; the first and the last choice alone where it shall be quick."""
        for choice in cut.choices[:: max(1, len(cut.choices) - 1)] if quick else cut.choices:
            student, seconds = self._built(cut.architecture(self.teacher, choice))
            row = Row(cut, cut.label(choice), seconds, self.score(student))
            scores = "  ".join(f"{name} {value:<9.4g}" for name, value in row.scores.items())
            print(f"{cut.name:<25} {row.choice:<28} {scores} {seconds:.2f} s", flush=True)
            yield row

    def reported(self, rows: Iterable[Row]) -> Iterator[Figure]:
        """The scores of students as figures."""
        for row in rows:
            for name, value in [*row.scores.items()][:2]:
                label = f"{name} ({row.cut.name}: {row.choice})"
                yield Figure.of(label, [value], UNITS.get(name, ""))

    def build_seconds(self, name: str, cut: Cut, choice: Choice, bar: str) -> Figure:
        """What it takes to make a student, given the calibration; the first time does not count."""
        architecture = cut.architecture(self.teacher, choice)
        spent = [self._built(architecture)[1] for _ in range(4)]
        print(f"{name}: {' '.join(f'{s:.2f}' for s in spent)} s", flush=True)
        return Figure.of(name, spent[1:], "s", f"{cut.label(choice)}; {bar}")

    def _built(self, architecture: Architecture) -> tuple[Student, float]:
        gc.collect()  # a model holds itself in cycles, and the one before is as large
        begin = time.perf_counter()
        student = self.teacher.student(architecture, self.calibration)
        return student, time.perf_counter() - begin

    def _best(self, cut: Cut, rows: list[Row]) -> Figure:
        found = {[*row.scores.values()][cut.by]: row.choice for row in rows}
        value = self.best(found)
        return Figure.of(cut.figure, [value], "", f"{found[value]}; {cut.bar}")


def calibrated(
    teacher: Teacher,
    batches: list[Mapping[str, Any]],
    streams: Mapping[str, Any],
    layers: Iterable[str] = ("influence", "contiguous", "greedy"),
    criteria: Iterable[Any] = ("surgeon", "taylor"),
) -> Calibration:
    """All that students are cut and healed by, measured with its progress on the screen."""
    begin = time.perf_counter()
    with Console().status("calibration") as status:
        calibration = Calibration.of(
            teacher,
            batches,
            grams=True,
            layers=list(layers),
            criteria=list(criteria),
            announce=lambda done: status.update(f"calibration: {done}"),
        ).with_streams(teacher, streams)
    print(f"calibration took {time.perf_counter() - begin:.1f} s", flush=True)
    return calibration
