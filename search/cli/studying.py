"""The commands ``run``, ``report``, ``fidelity``, ``pick`` and ``export``."""

from pathlib import Path
from typing import TYPE_CHECKING

from protege.search.cli.arguments import (
    WorkerOptions,
    budgets_of,
    declared_front,
    front_of,
    search_in,
)
from protege.search.cli.formats import FormatOptions
from protege.search.cli.scripting import ScriptOptions, script_beside, script_for
from protege.search.cli.whole import Count, Whole
from protege.search.progress import PhaseTimes, say, say_json, say_table
from protege.search.records.plain import printable, quoted
from protege.search.running.stopping import Interrupted, signal_behind, stop_requests
from protege.spaces.errors import BadInput
from protege.spaces.files.manifest import MANIFEST

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.search.front.front import Front
    from protege.search.storage.storage import OptunaStudy

MOST_ADVICE = 3
"""Sentences of advice at the end of a run; the report has all of them."""


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
        minutes: Time limit in minutes; running trials finish.
        patience: Number of trials without hypervolume improvement after which the run ends.
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
        ),
        search.study,
    )


def finish(front: "Front", study: "OptunaStudy | None" = None) -> None:
    """Write the report of a study and print its front, hypervolume and time by phase.

    Args:
        front: The front of the study.
        study: The Optuna study, to which notes, plots and files for its dashboard are written.

    Raises:
        Interrupted: Ctrl-C or another signal ended the study.
    """
    from protege.search.analysis.card import study_record
    from protege.search.front.publishing import publish
    from protege.search.records.trial import State
    from protege.search.records.wording import misled, unimproved

    report = front.report()
    if study is not None:
        publish(front, study, front.shown_files(), report.read_text(encoding="utf-8"))
    found, trials = len(front.students), len(front.trials)
    on_front = f"{found} student{'' if found == 1 else 's'} on the front after {trials} trials"
    say(f"\n{printable(front.name)}: {on_front}")
    if front.about.get("ended"):
        say(f"Ended: {printable(front.about['ended'])}.")
    if failed := [one for one in front.trials if one.state is State.FAILED]:
        last = failed[-1]
        say(f"{len(failed)} failed; the last, trial {last.number}: {printable(last.reason)}")
    scale = "dominated share of the box between teacher and ideal, 0 to 1"
    say(f"\n{front}\n\nHypervolume {front.hypervolume:.4f} ({scale})")
    for note in (*front.baseline_notes, unimproved(front.trials), misled(front.trials)):
        if note:
            say(note)
    say(f"{PhaseTimes(front.about['seconds'])}\nReport: {printable(report)}")
    if front.students:
        say("\n".join([*_advice(front), "", *_next(front)]))
    say_json(study_record(front) | {"report": report})
    number = signal_behind(front.about.get("ended", ""))
    if number is not None:
        raise Interrupted(number)  # skip whatever the caller would do next


def _advice(front: "Front") -> list[str]:
    """Return the lines of the most urgent advice on a front."""
    sentences = front.advice()[:MOST_ADVICE]
    return ["", "Advice:", *(f"  {printable(one)}" for one in sentences)] if sentences else []


def _next(front: "Front") -> list[str]:
    """Return the lines that say what to do with a front: its knee, and commands."""
    from protege.search.analysis.card import brief, export_line, shown_path

    knee, run = front.knee().trial, shown_path(front.folder)
    first = front.objectives.records[0]
    budget = f"--{first.name.replace('_', '-')} {knee.measurements[first.name].value:.3g}"
    return [
        f"Knee of the front: {brief(front, knee)}",
        "Next:",
        f"  protege pick {quoted(run)} {budget}",
        f"  {export_line(run, knee)}",
        *([] if knee.number in front.confirmed else [f"  protege confirm {quoted(run)}"]),
        f"  protege train {quoted(run)} --trial {knee.number} --data FILE --epochs 3",
        f"  protege report {quoted(run)}",
        f"  protege dashboard {quoted(run)}",
    ]


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
    report = Front.read(search.place, search.name).report()
    say(f"Report: {printable(report)}")
    say_json({"students": found.rows(), "tau": found.rivals(), "report": report})


def report(run: str, /, *, study: str | None = None, folder: Path | None = None) -> None:
    """Write the report of a run.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        folder: Output folder (default: report in the run folder).
    """
    written = front_of(run, study).report(folder)
    say(f"Report: {printable(written)}")
    say_json({"report": written})


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
    or --retention 0.9 (at least), --speedup 2 (times faster than the teacher), and
    --parameters-m 10 (millions of parameters, at most).
    With budgets on qualities alone the fastest student that meets them is picked,
    otherwise the best one within them. Without any budget the knee of the front is
    picked. The teacher and the naive half never are.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        budget: A budget as OBJECTIVE=NUMBER, such as latency_ms=8; may be repeated.
        objective: A budget on that objective, such as --latency-ms 8 for --budget latency_ms=8.
    """
    from protege.search.analysis.card import export_line

    front = front_of(run, study)
    choice = front.pick(**budgets_of(front, budget or (), objective))
    line = export_line(run, choice.trial)
    say(f"{choice}\nTo export it: {line}")
    say_json(choice.record() | {"export": line})


def export(  # noqa: PLR0913 - one keyword for each choice of a user
    run: str,
    /,
    *,
    study: str | None = None,
    budget: tuple[str, ...] | None = None,
    trial: Whole | None = None,
    to: Path | None = None,
    script: ScriptOptions = ScriptOptions(),
    formats: FormatOptions = FormatOptions(),
    **objective: str,
) -> None:
    """Write a student as a Hugging Face checkpoint, and in formats of other runtimes.

    Budgets are those of protege pick, such as --latency-ms 8, --retention 0.9,
    --speedup 2 or --parameters-m 10. Without any budget the knee of the front is exported.

    Args:
        run: The run folder, its study.db, a storage URL, the study file, or the folder of an
            exported or trained student.
        study: The study's name, where a storage has several.
        budget: A budget as OBJECTIVE=NUMBER, such as latency_ms=8; may be repeated.
        trial: The trial's number, in place of budgets.
        to: A new folder (default: students/LABEL in the run folder, or the student's own).
        script: A script for another trainer.
        formats: The formats.
        objective: A budget on that objective, such as --latency-ms 8 for --budget latency_ms=8.
    """
    from protege.search.analysis.card import ChosenStudent

    if script.trainer is not None and formats.as_:
        raise BadInput("--for and --as: give one of them, then run the command with the other")
    formats.check()
    if (Path(run) / MANIFEST).is_file():
        if budget or objective or trial is not None:
            raise BadInput(f"{run}: a student's folder; budgets and --trial are for a run")
        if script.trainer is None:
            formats.write_beside(Path(run), to)
        else:
            script_beside(run, script, to)
        return
    front = front_of(run, study) if script.trainer is None else declared_front(run, study)
    budgets = budgets_of(front, budget or (), objective)
    if trial is not None and budgets:
        given = " ".join(f"{name}={value:g}" for name, value in budgets.items())
        raise BadInput(f"--trial {trial} and {given}: name a trial or give budgets, not both")
    choice = front.pick(**budgets) if trial is None else ChosenStudent(front.trial(trial), front)
    if script.trainer is not None:
        script_for(choice, script, to)
        return
    folder = choice.export(to)
    say(f"{choice}\nStudent: {printable(folder)}")
    say_json(choice.record() | {"folder": folder})
    formats.write(folder)
