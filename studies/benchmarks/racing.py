"""Measure the training that racing saves, by replaying races over fully trained studies.

Three studies of all-MiniLM-L6-v2 with different seeds, 40 candidates each, have the demo's
objectives. All candidates are trained to the end and scored at every rung. The race is then
replayed over them in the same order, and stopped candidates are left out of the front. Training
cost is steps times seconds per step.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from protege.search import Front, Search, Trial
from protege.search.running.coordinator import Coordinator
from protege.search.running.racing import Decision, Race, decide
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

NOBODY_STOPS = Race(min_records=10**9)
"""A race that scores and stores rungs but stops no student."""


def study(seed: int, folder: Path = FOLDER / "racing") -> Search:
    """Return the study of a seed; another run resumes it."""
    demo = minilm_cpu.search
    return Search(
        name=f"racing-{seed}",
        teacher=demo.teacher,
        space=demo.space,
        objectives=demo.objectives[:2],  # latency and retention
        distillation=demo.distillation,
        folder=folder / f"seed-{seed}",
        seed=seed,
        race=NOBODY_STOPS,
    )


@dataclass(frozen=True)
class Spent:
    """The result of a replayed study, relative to the study without a race.

    Attributes:
        until: Training cost until 99% of that study's hypervolume is reached; infinite if never.
        training: Total training cost.
        volume: Final hypervolume.
        stopped: Number of stopped students.
    """

    until: float
    training: float
    volume: float
    stopped: int


def spent(front: Front, race: Race) -> Spent:
    """Replay a study with a race, its students in their order of arrival."""
    objectives, teacher = front.objectives, front.teacher
    if teacher is None:
        raise RuntimeError("the study has no teacher")
    trials = [trial for trial in front.trials if trial.rungs]
    stopped = _stopped(front, trials, race)
    whole = objectives.hypervolume(trials, teacher)
    seconds = [_seconds(trial, stopped.get(trial.number)) for trial in trials]
    volumes = [
        objectives.hypervolume([t for t in trials[:count] if t.number not in stopped], teacher)
        / whole
        for count in range(1, len(trials) + 1)
    ]
    reached = next((at for at, volume in enumerate(volumes, 1) if volume >= 0.99), None)
    all_of_it = sum(_seconds(trial, None) for trial in trials)
    return Spent(
        until=math.inf if reached is None else sum(seconds[:reached]) / all_of_it,
        training=sum(seconds) / all_of_it,
        volume=volumes[-1],
        stopped=len(stopped),
    )


def _stopped(front: Front, trials: Sequence[Trial], race: Race) -> dict[int, int]:
    """Return the step at which each stopped trial is stopped, by trial number."""
    costs = [objective for objective in front.objectives.records if objective.name != "retention"]
    curves = []
    for trial in trials:
        cost = [objective.sign * trial.measurements[objective.name].value for objective in costs]
        curves.append([[*cost, -best] for best in accumulate(trial.curve.values(), max)])
    never = {front.teacher.number if front.teacher else -1, 0, 1}  # the baselines come first
    found = zip(trials, replay(curves, race), strict=True)
    return {
        trial.number: list(trial.rungs)[rung]
        for trial, rung in found
        if rung is not None and trial.number not in never
    }


def replay(curves: Sequence[Sequence[Sequence[float]]], race: Race) -> list[int | None]:
    """Replay a race over candidates with known objectives at every rung, one after another.

    At each rung but the last, a candidate is compared with all earlier ones that reached it,
    stopped or not. The first `Coordinator.prescored` are all scored at their first rung before
    any continues.

    Args:
        curves: Each candidate's objectives at each rung, to be minimised, in order of arrival.
        race: The race.

    Returns:
        The rung at which each candidate was stopped, or None if it reached the last.
    """
    reached: defaultdict[int, dict[int, Sequence[float]]] = defaultdict(dict)
    reached[0] = {
        at: curve[0] for at, curve in enumerate(curves[: Coordinator.prescored]) if len(curve) > 1
    }
    stopped: list[int | None] = []
    for number, curve in enumerate(curves):
        stopped.append(None)
        for rung, objectives in enumerate(curve[:-1]):
            others = [found for other, found in reached[rung].items() if other != number]
            reached[rung][number] = objectives
            if decide(others, objectives, race) is Decision.STOP:
                stopped[-1] = rung
                break
    return stopped


def _seconds(trial: Trial, step: int | None) -> float:
    """Return the training time up to a step; the total if it is None."""
    whole = trial.seconds.get("distil", 0.0)
    return whole if step is None else whole * step / max(trial.rungs)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the training cost over seeds with the default race, without one, and with others."""
    found = []
    for seed in range(1 if quick else 3):
        search = study(seed, FOLDER / "racing-quick" if quick else FOLDER / "racing")
        found.append(search.run(trials=8 if quick else 40))
        print(f"seed {seed}: {found[-1].hypervolume:.4f}", flush=True)
    races = {"": Race(), " (nobody stops)": NOBODY_STOPS}
    races |= {f" (eta {eta:g})": Race(eta=eta) for eta in (1.5, 2.0, 4.0, 6.0)}
    for label, race in races.items():
        shares = [spent(front, race) for front in found]
        told = "at most 0.40" if not label else ""
        name = f"training cost to 99% hypervolume{label}"
        yield Figure.of(name, [share.until for share in shares], "", told)
        told = f"{[share.stopped for share in shares]} of 40 stopped"
        yield Figure.of(f"training in all{label}", [share.training for share in shares], "", told)
        yield Figure.of(f"hypervolume{label}", [share.volume for share in shares])


if __name__ == "__main__":
    run_parts("racing", __doc__ or "", {"racing": figures})
