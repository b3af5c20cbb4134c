"""What racing saves: whole studies without it, whose every rung is known, and the race over them.

Three studies of all-MiniLM-L6-v2 of 40 candidates, each with a seed of its own; weights in memory
against retention, for racing takes costs as known exactly. All candidates are trained to the end
and judged at every rung; then the race is run over the same candidates in the same order, and what
it would have stopped is left out of the front. Training is counted in steps times seconds a step.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from protege.objectives import Memory, Retention, Workload
from protege.search import Front, Search, Trial
from protege.search.racing import Curve, Race, replay
from protege.spaces import SearchSpace
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.benchmarks.start_encoder import minilm
from studies.corpus import standard_library
from studies.minilm_cpu import DISTILLATION

NOBODY_STOPS = Race(min_records=10**9)
"""Rungs are judged and stored, and everyone goes on."""


def study(seed: int, folder: Path = FOLDER / "racing") -> Search:
    """One study; run again, it goes on where it was."""
    return Search(
        name=f"racing-{seed}",
        teacher=minilm(),
        space=SearchSpace(layers=(0.3, 1.0), hidden=(0.5, 1.0), intermediate=(0.25, 1.0)),
        objectives=[Memory(Workload()), Retention(standard_library(), DISTILLATION)],
        storage=f"sqlite:///{folder}/seed-{seed}/study.db",
        seed=seed,
        race=NOBODY_STOPS,
    )


def raced(front: Front, race: Race) -> tuple[float, float, int]:
    """Shares of hypervolume and of training that are left with racing, and how many are stopped."""
    trials = [trial for trial in front.trials if trial.rungs]
    stopped = _stopped(front, trials, race)
    kept = [trial for trial in trials if trial.number not in stopped]
    teacher = front.teacher
    if teacher is None:
        raise RuntimeError("the study has no teacher")
    volume = front.goals.hypervolume(kept, teacher) / front.goals.hypervolume(trials, teacher)
    spent = sum(_seconds(t, stopped.get(t.number)) for t in trials)
    return volume, spent / sum(_seconds(t, None) for t in trials), len(stopped)


def _stopped(front: Front, trials: Sequence[Trial], race: Race) -> dict[int, int]:
    """The step that each stopped trial gets to."""
    costs = [goal for goal in front.goals.goals if goal.name != "retention"]
    curves = [
        Curve(
            costs=tuple(goal.sign * trial.measurements[goal.name].value for goal in costs),
            qualities=tuple(trial.rungs.values()),
            seconds=tuple(_seconds(trial, step) for step in trial.rungs),
        )
        for trial in trials
    ]
    never = {front.teacher.number if front.teacher else -1, 0, 1}  # the baselines come first
    found = zip(trials, replay(curves, race).stopped_at, strict=True)
    return {
        trial.number: list(trial.rungs)[rung]
        for trial, rung in found
        if rung is not None and trial.number not in never
    }


def _seconds(trial: Trial, step: int | None) -> float:
    """Training up to a step; to the end if none is given."""
    whole = trial.seconds.get("distil", 0.0)
    return whole if step is None else whole * step / max(trial.rungs)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Racing's shares over the seeds, for the default and for harder and softer races."""
    found = []
    for seed in range(1 if quick else 3):
        search = study(seed, FOLDER / "racing-quick" if quick else FOLDER / "racing")
        found.append(search.run(trials=8 if quick else 40))
        print(f"seed {seed}: {found[-1].hypervolume:.4f}", flush=True)
    for eta in (2.0, 3.0, 4.0, 6.0, 9.0):
        shares = [raced(front, Race(eta=eta)) for front in found]
        label = "" if eta == Race().eta else f" (eta {eta:g})"
        volumes = f"{min(share[0] for share in shares):.4f} of the hypervolume at least"
        yield Figure.of(
            f"training cost to 99% hypervolume{label}",
            [share[1] for share in shares],
            "",
            f"at most 0.40; {volumes}, {[share[2] for share in shares]} of 40 stopped",
        )


if __name__ == "__main__":
    run_parts("racing", __doc__ or "", {"racing": figures})
