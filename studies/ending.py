"""How a study that is run as a script ends: front, report, one exported student, confirmed."""

import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from protege.search import Choice, Front, Search
from protege.search.cli import finish


def conclude(search: Search, trials: int, times_faster: float) -> None:
    """Run the study, print its front, export a student and measure it again from its folder.

    Args:
        search: The study.
        trials: Trials in all.
        times_faster: What the exported student must be; of those that are, it is the best.
    """
    front = search.run(trials=trials)
    finish(front)
    choice = fast_enough(front, times_faster)
    folder = free(front.folder / "students" / choice.trial.label)
    print(f"\nStudent: {choice.export(folder)}")
    print(compared(choice, search.confirm(folder)))


def free(folder: Path) -> Path:
    """Return the folder, or the first of ``folder-2``, ``folder-3``, ... that is not there yet.

    What is there is an export of an earlier run, or somebody's own: it stays.
    """
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(path for path in chain([folder], numbered) if not os.path.lexists(path))


def compared(choice: Choice, again: Mapping[str, float]) -> str:
    """What the study measured beside what was measured again from the exported folder."""
    found = choice.trial.measurements
    before = {name: measurement.value for name, measurement in found.items()}
    before["speedup"] = float(found["latency_ms"].details["speedup"])
    rows = [f"  {'':<18}{'in the study':>16}{'from the folder':>18}"]
    for name, value in again.items():
        known = f"{before[name]:.4f}" if name in before else "-"  # texts that no search has seen
        rows.append(f"  {name:<18}{known:>16}{value:>18.4f}")
    return "\n".join(rows)


def fast_enough(front: Front, times_faster: float) -> Choice:
    """The best student that is clearly faster; the fastest one where none is."""
    if front.teacher is None:
        return Choice(front.members[0], front)
    budget_ms = front.teacher.measurements["latency_ms"].value / times_faster
    # two standard errors inside the budget, so that another measurement agrees
    fast = [
        trial
        for trial in front.members
        if (found := trial.measurements["latency_ms"]).value + 2 * found.spread <= budget_ms
    ]
    if not fast:
        return Choice(front.members[0], front)
    return Choice(max(fast, key=lambda trial: trial.measurements["retention"].value), front)
