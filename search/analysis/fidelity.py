"""Whether the short distillation of a search ranks students as a long one does: measured."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
    from protege.objectives import Candidate, Retention

FOLDER = "fidelity"
"""In a run folder: what students reach when they are taught for longer."""

_KEPT = re.compile(r"trial-\d{5,}-x\S+\.json")
"""The names of files that `measured` writes."""


@dataclass(frozen=True)
class LongRun:
    """One student, taught as the search does and for several times as long.

    Attributes:
        number: Its trial.
        rungs: What it is worth at each rung of the search, by steps; the last is the search's end.
        long: What it is worth at the end of the long run.
        steps: Steps of the long run.
        seconds: What the long run took.
    """

    number: int
    rungs: Mapping[int, float]
    long: float
    steps: int
    seconds: float

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "LongRun":
        """The run that `asdict` gave."""
        rungs = {int(step): value for step, value in record["rungs"].items()}
        return cls(**{**record, "rungs": rungs})


@dataclass(frozen=True)
class Fidelity:
    """How each rung of a search agrees with a distillation so many times as long.

    Attributes:
        times: How many times.
        runs: The students that tell.
    """

    times: float
    runs: tuple[LongRun, ...]

    @classmethod
    def read(cls, folder: Path) -> "Fidelity | None":
        """What is kept in a run folder, of the longest runs there are enough of; none without."""
        found: dict[float, list[LongRun]] = {}
        for path in sorted((folder / FOLDER).glob("*.json")):
            if not _KEPT.fullmatch(path.name):
                continue  # somebody else's
            with undamaged(str(path), "remove it, and run protege fidelity again"):
                stored = json.loads(path.read_bytes())
                found.setdefault(stored["times"], []).append(LongRun.of_record(stored["run"]))
        enough = {times: runs for times, runs in found.items() if len(runs) >= FEWEST}
        if not enough:
            return None
        return cls(max(enough), tuple(enough[max(enough)]))

    @cached_property
    def by_rung(self) -> dict[int, Agreement]:
        """How each rung that all students were judged at agrees, by its step.

        Best are the top quarter of them, at least three.
        """
        steps = set.intersection(*(set(run.rungs) for run in self.runs))
        long, best = [run.long for run in self.runs], max(FEWEST, round(len(self.runs) / 4))
        return {
            step: agreement([run.rungs[step] for run in self.runs], long, best)
            for step in sorted(steps)
        }

    def rows(self) -> list[dict[str, object]]:
        """The agreement of each rung as a table."""
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
    """Trials that stand for a study: half from its front, half from behind it.

    Raises:
        BadInput: There are too few that were trained.
    """
    trained = [trial for trial in trials if trial.rungs or trial.state is State.COMPLETE]
    trained = [trial for trial in trained if trial.measurements["retention"].samples]
    if len(trained) < FEWEST:
        raise BadInput(
            f"{len(trained)} trained students: an order needs {FEWEST} of them; "
            "run the study first, or for longer"
        )
    first = goals.goals[0].sign
    positions = [first * goals.values(trial)[0] for trial in trained]
    return [trained[i] for i in sampled(goals.ranks(trained), positions, count)]


def measured(
    retention: "Retention",
    candidates: "Sequence[tuple[int, Callable[[], Candidate]]]",
    folder: Path,
    times: float,
    announce: Callable[[str], None] = lambda _: None,
) -> Fidelity:
    """Teach each candidate as the search does and for so many times as long.

    Every student is stored when it is done, and its longer training on the way: run again, it goes
    on where it was.

    Args:
        retention: The search's own.
        candidates: By trial number, each made anew when called.
        folder: The run folder.
        times: How many times as long.
        announce: Told of what is going on.
    """
    runs = []
    for place, (number, make) in enumerate(candidates, 1):
        path = folder / FOLDER / f"trial-{number:05d}-x{times:g}.json"
        under_way = path.with_suffix(".safetensors")
        if not path.exists():
            told = partial(_told, announce, f"{place}/{len(candidates)}")
            run = _taught(retention, make, number, times, told, under_way)
            write_text(path, json.dumps({"times": times, "run": asdict(run)}, indent=1))
        remove(under_way)
        with undamaged(str(path), "remove it, and run protege fidelity again"):
            runs.append(LongRun.of_record(json.loads(path.read_bytes())["run"]))
    return Fidelity(times, tuple(runs))


def _taught(
    retention: "Retention",
    make: "Callable[[], Candidate]",
    number: int,
    times: float,
    announce: Callable[[str], None],
    checkpoint: Path,
) -> LongRun:
    """One student, short and long."""
    short, long = make(), replace(make(), checkpoint=checkpoint)
    for candidate in (short, long):
        candidate.stopwatch.announce = announce
    rungs = {rung.step: rung.published.value for rung in retention.rungs(short)}
    settings = retention.distillation
    steps = round(times * settings.steps)
    longer = replace(retention, distillation=replace(settings, steps=steps))
    before = long.stopwatch.snapshot()
    value = longer.measure(long).value
    return LongRun(number, rungs, value, steps, long.stopwatch.since(before).get("distil", 0.0))


def _told(announce: Callable[[str], None], place: str, what: str) -> None:
    announce(f"{place} {what}")
