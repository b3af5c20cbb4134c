"""Build untrained students of a teacher by different policies, and score them."""

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from rich.console import Console

from protege.spaces import (
    Architecture,
    Calibration,
    Closest,
    Contiguous,
    First,
    Greedy,
    Influence,
    Student,
    Surgeon,
    Taylor,
    Teacher,
    Uniform,
)
from protege.spaces.architecture.policies import Healing, LayerPolicy, WidthPolicy
from protege.spaces.calibration.plan import CalibrationPlan
from studies.benchmarks.figures import Figure

UNITS = {"KL": "nats"}
"""The units of scores that have one."""

LAYER_POLICIES = (Influence(), Contiguous(), Greedy(), Closest())
EVERY_POLICY = (*LAYER_POLICIES, Surgeon(), Taylor())
"""The policies that a calibration is for if none are given."""


@dataclass(frozen=True)
class Choice:
    """The policies by which a student is cut, and how it is healed."""

    layers: LayerPolicy
    widths: WidthPolicy
    healing: Healing


@dataclass(frozen=True)
class Cut:
    """The sizes of a student, and the choices to compare.

    Attributes:
        name: The cut's name.
        ratios: The student's sizes relative to the teacher's.
        choices: The choices; the first is the common recipe.
        figure: The name of the best choice's figure; empty to report none.
        bar: The target value of that figure.
        by: The index of the score that choices are compared by.
    """

    name: str
    ratios: Mapping[str, float]
    choices: tuple[Choice, ...]
    figure: str = ""
    bar: str = ""
    by: int = 0

    def architecture(self, teacher: Teacher, choice: Choice) -> Architecture:
        """Return the student's architecture under a choice."""
        ratios: Any = self.ratios
        return teacher.architecture.scaled(
            **ratios,
            layer_policy=choice.layers,
            width_policy=choice.widths,
            healing=choice.healing,
        )

    def label(self, choice: Choice) -> str:
        """Return the names of the policies that matter for this cut, and the healing."""
        deep, wide = "layers" in self.ratios, bool(set(self.ratios) - {"layers"})
        parts = [choice.layers.name] * deep + [choice.widths.name] * wide
        return ", ".join(parts + [choice.healing] * (choice.healing != "none"))


def choices(
    layers: Iterable[LayerPolicy] = (Uniform(),),
    widths: Iterable[WidthPolicy] = (First(),),
    healing: Iterable[Healing] = ("none",),
) -> tuple[Choice, ...]:
    """Return all combinations of layer policies, width policies and healing."""
    return tuple(Choice(*one) for one in product(layers, widths, healing))


@dataclass(frozen=True)
class Row:
    """One student with its scores.

    Attributes:
        cut: The cut.
        choice: The choice's label.
        seconds: Build time, without calibration.
        scores: The scores by name.
    """

    cut: Cut
    choice: str
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Subject:
    """A teacher, its calibration, and how its students are scored.

    Attributes:
        teacher: The teacher.
        calibration: The teacher's calibration.
        score: Computes a student's scores; the first two are reported.
        best: Picks the best value of a score: `min` or `max`.
    """

    teacher: Teacher
    calibration: Calibration
    score: Callable[[Student], Mapping[str, float]]
    best: Callable[[Iterable[float]], float]

    def figures(self, cuts: Iterable[Cut], *, quick: bool) -> Iterator[Figure]:
        """Yield the best choice of each cut that has a figure, and the scores of all students."""
        for cut in cuts:
            rows = list(self.rows(cut, quick=quick))
            if cut.figure:
                yield self._best(cut, rows)
            yield from self.reported(rows)

    def rows(self, cut: Cut, *, quick: bool = False) -> Iterator[Row]:
        """Yield the scored students of a cut; with ``quick`` only the first and the last choice."""
        for choice in cut.choices[:: max(1, len(cut.choices) - 1)] if quick else cut.choices:
            student, seconds = self._built(cut.architecture(self.teacher, choice))
            row = Row(cut, cut.label(choice), seconds, self.score(student))
            scores = "  ".join(f"{name} {value:<9.4g}" for name, value in row.scores.items())
            print(f"{cut.name:<25} {row.choice:<28} {scores} {seconds:.2f} s", flush=True)
            yield row

    def reported(self, rows: Iterable[Row]) -> Iterator[Figure]:
        """Yield the scores of students as figures."""
        for row in rows:
            for name, value in [*row.scores.items()][:2]:
                label = f"{name} ({row.cut.name}: {row.choice})"
                yield Figure.of(label, [value], UNITS.get(name, ""))

    def build_seconds(self, name: str, cut: Cut, choice: Choice, bar: str) -> Figure:
        """Measure the time to build a student without calibration, after one warm-up."""
        architecture = cut.architecture(self.teacher, choice)
        spent = [self._built(architecture)[1] for _ in range(4)]
        print(f"{name}: {' '.join(f'{s:.2f}' for s in spent)} s", flush=True)
        return Figure.of(name, spent[1:], "s", f"{cut.label(choice)}; {bar}")

    def _built(self, architecture: Architecture) -> tuple[Student, float]:
        gc.collect()  # frees the previous model, which is in reference cycles
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
    policies: Iterable[LayerPolicy | WidthPolicy] = EVERY_POLICY,
) -> Calibration:
    """Calibrate a teacher for policies and healing, with its progress on the screen."""
    begin = time.perf_counter()
    with Console().status("calibration") as status:
        plan = CalibrationPlan.of(policies, "sequential")
        calibration = Calibration.measured(
            teacher, batches, plan, lambda done: status.update(f"calibration: {done}")
        ).with_streams(teacher, streams)
        if Closest.name in plan.layers:
            calibration = calibration.with_closest(teacher, batches)
    print(f"calibration took {time.perf_counter() - begin:.1f} s", flush=True)
    return calibration
