"""Fidelity: whether the short distillation of a search ranks students as a longer one does."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protege.search.analysis.agreement import FEWEST, Agreement, agreement, sampled
from protege.search.records.goals import Goals
from protege.search.records.trial import State, Trial
from protege.search.storage.explaining import undamaged
from protege.spaces import BadInput
from protege.spaces.files.atomic import remove, write_text

if TYPE_CHECKING:  # results are read without torch
    from protege.objectives import Candidate, Objective

FOLDER = "fidelity"
"""Folder in a run folder with the results of longer distillations."""

UNTRAINED, SHORT, LONG = "untrained", "short", "long"
"""A student as cut and healed, after the search's distillation, and after the longer one."""

PARAMETERS = "parameters"
"""The trivial rival of a quality: the student with more parameters is better."""

_KEPT = re.compile(r"trial-\d{5,}-x\S+\.json")
"""The names of files that `measured` writes."""


@dataclass(frozen=True)
class LongRun:
    """One student, distilled as in the search and for several times as long.

    Attributes:
        number: Its trial.
        rungs: Its quality at each rung of the search, by training step; the last is the final one.
        long: Its quality at the end of the long run.
        steps: Steps of the long run.
        seconds: Training time of the long run.
        parameters: Number of its parameters.
        qualities: By objective name, its values `UNTRAINED`, `SHORT` and `LONG`; more is better.
    """

    number: int
    rungs: Mapping[int, float]
    long: float
    steps: int
    seconds: float
    parameters: int = 0
    qualities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "LongRun":
        """Read a run from the record that `asdict` made."""
        rungs = {int(step): value for step, value in record["rungs"].items()}
        return cls(**{**record, "rungs": rungs})


@dataclass(frozen=True)
class Fidelity:
    """Agreement of each rung of a search with a longer distillation.

    Attributes:
        times: Length of the longer distillation, relative to the search's.
        runs: One run per student.
    """

    times: float
    runs: tuple[LongRun, ...]

    @classmethod
    def read(cls, folder: Path) -> "Fidelity | None":
        """Read the longest runs in a run folder of which there are at least `FEWEST`, or None."""
        found: dict[float, list[LongRun]] = {}
        for path in sorted((folder / FOLDER).glob("*.json")):
            if not _KEPT.fullmatch(path.name):
                continue  # not written by protege
            with undamaged(str(path), "remove it, and run protege fidelity again"):
                stored = json.loads(path.read_bytes())
                found.setdefault(stored["times"], []).append(LongRun.of_record(stored["run"]))
        enough = {times: runs for times, runs in found.items() if len(runs) >= FEWEST}
        if not enough:
            return None
        return cls(max(enough), tuple(enough[max(enough)]))

    @cached_property
    def by_rung(self) -> dict[int, Agreement]:
        """The agreement of each rung that all students share, by training step.

        A quarter of the students, at least `FEWEST`, count as the best.
        """
        steps = set.intersection(*(set(run.rungs) for run in self.runs))
        long, best = [run.long for run in self.runs], max(FEWEST, round(len(self.runs) / 4))
        return {
            step: agreement([run.rungs[step] for run in self.runs], long, best)
            for step in sorted(steps)
        }

    @cached_property
    def by_quality(self) -> dict[str, dict[str, Agreement]]:
        """How well the order after the longer distillation is foretold in each quality objective.

        By objective name: the agreement of the search's distillation (`SHORT`), of the student as
        cut and healed (`UNTRAINED`), and of the number of parameters (`PARAMETERS`).
        """
        best = max(FEWEST, round(len(self.runs) / 4))
        shared = [set(run.qualities) for run in self.runs]
        found: dict[str, dict[str, Agreement]] = {}
        for name in [one for one in self.runs[0].qualities if all(one in some for some in shared)]:
            values = [run.qualities[name] for run in self.runs]
            orders = {part: [one[part] for one in values] for part in (SHORT, UNTRAINED)}
            orders[PARAMETERS] = [float(run.parameters) for run in self.runs]
            long = [one[LONG] for one in values]
            found[name] = {part: agreement(order, long, best) for part, order in orders.items()}
        return found

    def rivals(self) -> list[dict[str, object]]:
        """Return Kendall's tau of each quality objective beside its rivals, as rows of a table."""
        return [
            {
                "quality": name,
                "kendall tau": of[SHORT].kendall,
                "95%": "{:.2f} to {:.2f}".format(*of[SHORT].kendall_interval),
                "as cut and healed": of[UNTRAINED].kendall,
                "more parameters": of[PARAMETERS].kendall,
            }
            for name, of in self.by_quality.items()
        ]

    def rows(self) -> list[dict[str, object]]:
        """Return the agreement of each rung as rows of a table."""
        return [
            {
                "step": step,
                "kendall tau": one.kendall,
                "95%": "{:.2f} to {:.2f}".format(*one.kendall_interval),
                f"top {one.k} shared": one.overlap,
                " 95%": "{:.2f} to {:.2f}".format(*one.overlap_interval),
            }
            for step, one in self.by_rung.items()
        ]


def chosen(trials: Iterable[Trial], goals: Goals, count: int) -> list[Trial]:
    """Choose trained trials to distil for longer, half of them from the front.

    Raises:
        BadInput: Fewer than `FEWEST` students were trained.
    """
    trained = [trial for trial in trials if trial.rungs or trial.state is State.COMPLETE]
    trained = [trial for trial in trained if trial.training is not None]
    if len(trained) < FEWEST:
        raise BadInput(
            f"{len(trained)} trained students: an order needs {FEWEST} of them; "
            "run the study first, or for longer"
        )
    first = goals.goals[0].sign
    positions = [first * goals.values(trial)[0] for trial in trained]
    return [trained[i] for i in sampled(goals.ranks(trained), positions, count)]


def measured(
    judges: "Sequence[Objective]",
    candidates: "Mapping[int, Candidate]",
    folder: Path,
    times: float,
    announce: Callable[[str], None] = lambda _: None,
    qualities: "Sequence[Objective]" = (),
) -> Fidelity:
    """Distil each candidate as in the search and for several times as long.

    Results and training checkpoints are stored, so that an interrupted measurement resumes.

    Args:
        judges: The objective that scores the rungs.
        candidates: By trial number.
        folder: The run folder.
        times: Length of the longer distillation, relative to the search's.
        announce: Called with the current phase.
        qualities: Objectives whose values before, after the short and after the long run are
            recorded.
    """
    runs = []
    for place, (number, candidate) in enumerate(candidates.items(), 1):
        path = folder / FOLDER / f"trial-{number:05d}-x{times:g}.json"
        under_way = path.with_suffix(".safetensors")
        if not path.exists():
            report = partial(_announced, announce, f"{place}/{len(candidates)}")
            candidate.prepared.stopwatch.announce = report
            run = _distilled(judges, qualities, candidate, number, times, under_way)
            write_text(path, json.dumps({"times": times, "run": asdict(run)}, indent=1))
        remove(under_way)
        with undamaged(str(path), "remove it, and run protege fidelity again"):
            runs.append(LongRun.of_record(json.loads(path.read_bytes())["run"]))
    return Fidelity(times, tuple(runs))


def _distilled(
    judges: "Sequence[Objective]",
    qualities: "Sequence[Objective]",
    candidate: "Candidate",
    number: int,
    times: float,
    checkpoint: Path,
) -> LongRun:
    """Distil one student for the short and the long run."""
    from protege.objectives.quality.rungs import Distilling
    from protege.objectives.resources.size import parameters

    shared, name = candidate.prepared, judges[0].name
    short = Distilling(candidate, judges)
    rungs = {rung.step: rung.published[name].value for rung in short.rungs()}
    steps = round(times * shared.settings.steps)
    longer = replace(shared, distillation=replace(shared.settings, steps=steps))
    before = shared.stopwatch.snapshot()
    best = Distilling(replace(candidate, prepared=longer), judges, checkpoint).last()
    took = shared.stopwatch.since(before).get("distil", 0.0)
    parts = {SHORT: short.published.candidate, LONG: best.candidate}
    parts |= {UNTRAINED: candidate.built()} if qualities else {}
    signs = {one.name: 1.0 if one.direction == "maximize" else -1.0 for one in qualities}
    worth = {
        one.name: {
            part: signs[one.name] * one.measure(replace(student, prepared=shared)).value
            for part, student in parts.items()
        }
        for one in qualities
    }
    long, count = best.measurements[name].value, parameters(candidate)
    return LongRun(number, rungs, long, steps, took, count, worth)


def _announced(announce: Callable[[str], None], place: str, what: str) -> None:
    announce(f"{place} {what}")
