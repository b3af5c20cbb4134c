"""Run a study as a script: print its front, write its report, export and confirm one student."""

import os
import sys
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from protege.search import ChosenStudent, Front, Search, Trial
from protege.search.analysis.choosing import some_students
from protege.search.cli.studying import finish
from protege.search.progress import say
from protege.search.records.plain import printable
from protege.search.running.stopping import stop_requests


def conclude(search: Search, trials: int, times_faster: float) -> None:
    """Run the study, print its front, export a student and measure the export.

    Args:
        search: The study.
        trials: Number of trials.
        times_faster: Minimum speed-up of the exported student, the best of those that reach it.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    front = search.run(trials, stop_requests=stop_requests, file=Path(file) if file else None)
    finish(front, search.study)
    choice = fast_enough(front, times_faster)
    folder = free(front.folder / "students" / choice.trial.label)
    say(f"\nStudent: {printable(choice.export(folder))}")
    say(compared(choice, search.confirm(folder)))


def free(folder: Path) -> Path:
    """Return the folder, or the first of ``folder-2``, ``folder-3``, ... that does not exist.

    Existing exports and other files are never overwritten.
    """
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(path for path in chain([folder], numbered) if not os.path.lexists(path))


def compared(choice: ChosenStudent, again: Mapping[str, float]) -> str:
    """What the study measured beside what was measured again from the exported folder."""
    found = choice.trial.measurements
    before = {name: measurement.value for name, measurement in found.items()}
    before["speedup"] = float(found["latency_ms"].details["speedup"])
    rows = [f"  {'':<18}{'in the study':>16}{'from the folder':>18}"]
    for name, value in again.items():
        known = f"{before[name]:.4f}" if name in before else "-"  # held-out texts
        rows.append(f"  {name:<18}{known:>16}{value:>18.4f}")
    return "\n".join(rows)


def fast_enough(front: Front, times_faster: float) -> ChosenStudent:
    """Choose the best student that is clearly faster, or the fastest one if none is.

    Raises:
        BadInput: There is no student on the front.
    """
    students = some_students(front)
    if front.teacher is not None:
        budget_ms = front.teacher.measurements["latency_ms"].value / times_faster
        # two standard errors inside the budget, so that another measurement agrees
        fast = [trial for trial in students if _slowest_ms(trial) <= budget_ms]
        if fast:
            best = max(fast, key=lambda trial: trial.measurements["retention"].value)
            return ChosenStudent(
                best, front, f"the best retention at {times_faster:g} times faster"
            )
    fastest = min(students, key=lambda trial: trial.measurements["latency_ms"].value)
    return ChosenStudent(fastest, front, "the least latency_ms")


def _slowest_ms(trial: Trial) -> float:
    found = trial.measurements["latency_ms"]
    return found.value + 2 * found.spread
