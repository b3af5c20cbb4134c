"""What racing saves: whole studies without it, whose every rung is known, and the race over them.

Three studies of all-MiniLM-L6-v2 of 40 candidates, each with a seed of its own, with the goals of
the demo. All candidates are trained to the end and judged at every rung; then the race is run over
the same candidates in the same order, and what it would have stopped is left out of the front.
Training is counted in steps times seconds a step.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from protege.search import Front, Search, Trial
from protege.search.running.coordinator import SCOUTED
from protege.search.running.racing import Decision, Race, decide
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts

NOBODY_STOPS = Race(min_records=10**9)
"""Rungs are judged and stored, and everyone goes on."""


def study(seed: int, folder: Path = FOLDER / "racing") -> Search:
    """One study; run again, it goes on where it was."""
    demo = minilm_cpu.search
    return Search(
        name=f"racing-{seed}",
        teacher=demo.teacher,
        space=demo.space,
        objectives=demo.objectives,
        folder=folder / f"seed-{seed}",
        seed=seed,
        race=NOBODY_STOPS,
    )


@dataclass(frozen=True)
class Spent:
    """What a study of known curves comes to, as shares of the study in which nobody stops.

    Attributes:
        until: Training until 99% of that study's hypervolume is reached; infinite if it never is.
        training: All of it.
        volume: Hypervolume at the end.
        stopped: How many students are stopped.
    """

    until: float
    training: float
    volume: float
    stopped: int


def spent(front: Front, race: Race) -> Spent:
    """The study with a race, its students in the order in which they came."""
    goals, teacher = front.goals, front.teacher
    if teacher is None:
        raise RuntimeError("the study has no teacher")
    trials = [trial for trial in front.trials if trial.rungs]
    stopped = _stopped(front, trials, race)
    whole = goals.hypervolume(trials, teacher)
    seconds = [_seconds(trial, stopped.get(trial.number)) for trial in trials]
    volumes = [
        goals.hypervolume([t for t in trials[:count] if t.number not in stopped], teacher) / whole
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
    """The step that each stopped trial gets to."""
    costs = [goal for goal in front.goals.goals if goal.name != "retention"]
    curves = []
    for trial in trials:
        cost = [goal.sign * trial.measurements[goal.name].value for goal in costs]
        curves.append([[*cost, -best] for best in accumulate(trial.rungs.values(), max)])
    never = {front.teacher.number if front.teacher else -1, 0, 1}  # the baselines come first
    found = zip(trials, replay(curves, race), strict=True)
    return {
        trial.number: list(trial.rungs)[rung]
        for trial, rung in found
        if rung is not None and trial.number not in never
    }


def replay(curves: Sequence[Sequence[Sequence[float]]], race: Race) -> list[int | None]:
    """Race candidates whose figures at every rung are known, one after another.

    Each is compared at each of its rungs but the last with all that earlier ones reached there,
    stopped or not. The first `SCOUTED` are compared at their first rung before any goes beyond it.

    Args:
        curves: For each candidate, in order of arrival, its goals at each rung, to be minimised.
        race: How hard they compete.

    Returns:
        For each candidate the rung it was stopped at, or None if it got to its last.
    """
    reached: defaultdict[int, dict[int, Sequence[float]]] = defaultdict(dict)
    reached[0] = {at: curve[0] for at, curve in enumerate(curves[:SCOUTED]) if len(curve) > 1}
    stopped: list[int | None] = []
    for number, curve in enumerate(curves):
        stopped.append(None)
        for rung, goals in enumerate(curve[:-1]):
            others = [found for other, found in reached[rung].items() if other != number]
            reached[rung][number] = goals
            if decide(others, goals, race) is Decision.STOP:
                stopped[-1] = rung
                break
    return stopped


def _seconds(trial: Trial, step: int | None) -> float:
    """Training up to a step; to the end if none is given."""
    whole = trial.seconds.get("distil", 0.0)
    return whole if step is None else whole * step / max(trial.rungs)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Shares of training over the seeds: without a race, with the default, with other ones."""
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
