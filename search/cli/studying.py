"""The commands ``run``, ``report``, ``fidelity``, ``pick`` and ``export``."""

from pathlib import Path
from typing import TYPE_CHECKING

from protege.search.cli.arguments import (
    Count,
    Whole,
    WorkerOptions,
    budgets_of,
    front_of,
    search_in,
)
from protege.search.cli.formats import FormatOptions
from protege.search.progress import PhaseTimes, say, say_table
from protege.search.records.plain import printable, quoted
from protege.search.running.stopping import Interrupted, signal_behind, stop_requests
from protege.spaces.errors import BadInput
from protege.spaces.files.manifest import MANIFEST

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.search.front.front import Front


def run(
    study: Path,
    /,
    *,
    trials: Count = 40,
    minutes: float | None = None,
    patience: Count | None = None,
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Run or resume a study.

    Args:
        study: A Python file that defines a Search.
        trials: Total number of trials, including those of earlier runs.
        minutes: Start no trial after so many minutes.
        patience: End after so many trials without a gain in hypervolume.
        workers: How trials run in parallel.
    """
    search = search_in(study)
    finish(
        search.run(
            trials,
            minutes=minutes,
            patience=patience,
            engine=workers.engine(),
            stop_requests=stop_requests,
            file=study,
        )
    )


def finish(front: "Front") -> None:
    """Write the report of a study and print its front, hypervolume and time by phase.

    Raises:
        Interrupted: Ctrl-C or another signal ended the study.
    """
    from protege.search.records.trial import State
    from protege.search.records.wording import misled, unimproved

    report = front.report()
    found, trials = len(front.students), len(front.trials)
    on_front = f"{found} student{'' if found == 1 else 's'} on the front after {trials} trials"
    say(f"\n{printable(front.name)}: {on_front}")
    if front.about.get("ended"):
        say(f"It ended because {printable(front.about['ended'])}.")
    if failed := [one for one in front.trials if one.state is State.FAILED]:
        last = failed[-1]
        say(f"{len(failed)} failed; the last, trial {last.number}: {printable(last.reason)}")
    scale = "0 = the teacher alone, 1 = its quality at no cost"
    say(f"{front}\n\nHypervolume {front.hypervolume:.4f} ({scale})")
    for note in (*front.baseline_notes, unimproved(front.trials), misled(front.trials)):
        if note:
            say(note)
    say(f"{PhaseTimes(front.about['seconds'])}\nReport: {printable(report)}")
    number = signal_behind(front.about.get("ended", ""))
    if number is not None:
        raise Interrupted(number)  # skip whatever the caller would do next


def fidelity(study: Path, /, *, sample: Count = 16, times: Count = 8) -> None:
    """Check that the short distillation ranks students as a longer one does.

    Args:
        study: The study file of a run.
        sample: Number of students to train for longer.
        times: Length of the longer distillation, relative to the study's.
    """
    from protege.search.front.front import Front

    search = search_in(study)
    found = search.fidelity(sample, times)
    count = f"{len(found.runs)} students, trained {times:g} times as long"
    say(f"{printable(search.name)}: {count}")
    say_table(found.rows())
    say("Kendall's tau of each quality, beside its trivial rivals:")
    say_table(found.rivals())
    say(f"Report: {printable(Front.read(search.place, search.name).report())}")


def report(run: str, /, *, study: str | None = None, folder: Path | None = None) -> None:
    """Write the report of a run.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        folder: Output folder (default: report in the run folder).
    """
    say(f"Report: {printable(front_of(run, study).report(folder))}")


def pick(
    run: str,
    /,
    *,
    study: str | None = None,
    budget: tuple[str, ...] | None = None,
    **objective: str,
) -> None:
    """Name the best student within budgets.

    Budgets are objectives of the study by name, such as --latency-ms 8 (at most)
    or --retention 0.9 (at least), and --speedup 2 (times faster than the teacher).
    With budgets on qualities alone the fastest student that meets them is picked,
    otherwise the best one within them. Without any budget the knee of the front is
    picked. The teacher and the naive half never are.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        budget: A budget as OBJECTIVE=NUMBER, such as latency_ms=8; may be repeated.
        objective: A budget on that objective, such as --latency-ms 8 for --budget latency_ms=8.
    """
    front = front_of(run, study)
    choice = front.pick(**budgets_of(front, budget or (), objective))
    # a storage URL may hold a password
    shown = "RUN" if "://" in run else quoted(run)
    say(f"{choice}\nTo export it: protege export {shown} --trial {choice.trial.number}")


def export(
    run: str,
    /,
    *,
    study: str | None = None,
    budget: tuple[str, ...] | None = None,
    trial: Whole | None = None,
    to: Path | None = None,
    formats: FormatOptions = FormatOptions(),
    **objective: str,
) -> None:
    """Write a student as a Hugging Face checkpoint, and in formats of other runtimes.

    Budgets are those of protege pick, such as --latency-ms 8, --retention 0.9 or
    --speedup 2. Without any budget the knee of the front is exported.

    Examples:
        protege export runs/minilm-cpu --latency-ms 15 --to students/minilm-15ms
        protege export students/minilm-15ms --as onnx --precision int8

    Args:
        run: The run folder, its study.db, a storage URL, the study file, or the folder of an
            exported or trained student.
        study: The study's name, where a storage has several.
        budget: A budget as OBJECTIVE=NUMBER, such as latency_ms=8; may be repeated.
        trial: The trial's number, in place of budgets.
        to: A new folder (default: students/LABEL in the run folder, or the student's own).
        formats: The formats.
        objective: A budget on that objective, such as --latency-ms 8 for --budget latency_ms=8.
    """
    from protege.search.analysis.choosing import ChosenStudent

    if (Path(run) / MANIFEST).is_file():
        if budget or objective or trial is not None:
            raise BadInput(f"{run}: a student's folder; budgets and --trial are for a run")
        formats.write_beside(Path(run), to)
        return
    formats.check()
    front = front_of(run, study)
    budgets = budgets_of(front, budget or (), objective)
    if trial is not None and budgets:
        given = " ".join(f"{name}={value:g}" for name, value in budgets.items())
        raise BadInput(f"--trial {trial} and {given}: name a trial or give budgets, not both")
    choice = front.pick(**budgets) if trial is None else ChosenStudent(front.trial(trial), front)
    folder = choice.export(to)
    say(f"{choice}\nStudent: {printable(folder)}")
    formats.write(folder)
