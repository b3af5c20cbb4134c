"""Notes on a study and its trials in Markdown, for Optuna Dashboard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite

from protege.search.analysis.choosing import knee
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import code, marked_down, quoted
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    AS_CUT,
    CHOSEN,
    SIZES,
    duration,
    figure,
    grade_note,
    listed,
    millions,
    misled,
    significant,
    titled,
    unimproved,
)
from protege.search.report.summary import conditions, headline, model_name

GAP = "\N{NO-BREAK SPACE}" * 3


def study_note(
    front: StudyResult, *, links: Mapping[str, str] | None = None, is_running: bool = False
) -> str:
    """Return the note on a study: the result, the front and the commands that use it.

    Args:
        front: The study.
        links: Addresses of files, by their name.
        is_running: Whether to leave out the choice of a student, which takes seconds on a large
            front: each two of its members are compared within noise.
    """
    best = knee(front).trial if front.students and not is_running else None
    counts = ", ".join(
        f"{count} {state}"
        for state in State
        if (count := sum(trial.state is state for trial in front.trials))
    )
    parts = [
        f"## {marked_down(model_name(front.about.get('teacher', {})))}",
        f"**{marked_down(headline(front, best))}**" if not is_running else "**The study runs.**",
        marked_down(conditions(front)),
        f"{len(front.trials)} trials: {counts}; hypervolume {significant(front.hypervolume)}.",
        _table(*_front(front)),
        *(marked_down(note) for note in _notes(front) if note),
        *(f"[{marked_down(name)}]({address})" for name, address in (links or {}).items()),
        _commands(front, best),
    ]
    return _paragraphs(parts)


def trial_note(front: StudyResult, trial: Trial, *, is_running: bool = False) -> str:
    """Return the note on a trial: sizes, figures and rungs of the student, and why it ended.

    Args:
        front: The study.
        trial: The trial.
        is_running: Whether to leave out the students that it equals within noise.
    """
    parts = [
        f"## {marked_down(trial.label)}",
        f"**{_became(front, trial)}**",
        _table(*_card(front, trial)),
        *map(marked_down, () if is_running else _noise(front, trial)),
        *(marked_down(note) for note in _remarks(trial)),
        _rungs(trial),
        _times(trial),
    ]
    if trial in front.students:
        parts.append(_shell([f"protege export {_run(front)} --trial {trial.number}"]))
    return _paragraphs(parts)


def _became(front: StudyResult, trial: Trial) -> str:
    """Return in a sentence what became of a trial."""
    if trial.state is State.COMPLETE:
        role = front.role(trial)
        place = "on the front" if trial in front.members else "not on the front"
        if role and trial in front.members:
            place = "which no student dominates"
        found = [f"The {role}" if role else "Finished", place]
        return ", ".join([*found, *([marked_down(trial.reason)] if trial.reason else [])]) + "."
    words = {State.STOPPED: "Stopped by the race", State.SCREENED: "Screened: not trained"}
    return f"{words.get(trial.state, 'Failed')}: {marked_down(trial.reason)}."


def _card(front: StudyResult, trial: Trial) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of the table of a student beside its teacher."""
    teacher, own = front.teacher, trial.architecture
    whole = front.about.get("teacher", {}).get("architecture") or {}
    rows = [
        [SIZES[name], f"{own[name]:,}", f"{whole[name]:,}", f"{own[name] / whole[name]:.0%}"]
        for name in SIZES
        if isinstance(own.get(name), int) and isinstance(whole.get(name), int) and whole[name]
    ]
    if trial.parameters:
        known = teacher.parameters if teacher else None
        of_all = [millions(known), front.share_of_teacher(trial)] if known else ["", ""]
        rows.append(["parameters", millions(trial.parameters), *of_all])
    again = front.confirmed.get(trial.number)
    for objective in front.objectives.records:
        row = _measured(objective, trial, teacher)
        value = None if again is None else again.value(objective.name)
        row[1] += "" if value is None else f", confirmed {significant(value)}"
        rows.append(row)
    if isfinite(trial.speedup):
        rows.append(["times faster", f"{trial.speedup:.2f}", "1", ""])
    made = ", ".join(str(own[name]) for name in CHOSEN if name in own)
    rows += [["made by", marked_down(made), "", ""]] if made else []
    return ["", "student", "teacher", "share"], rows


def _measured(objective: ObjectiveRecord, trial: Trial, teacher: Trial | None) -> list[str]:
    """Return the row of an objective: the values with errors, and the share of the teacher's."""
    found = trial.measurements.get(objective.name)
    whole = teacher.measurements.get(objective.name) if teacher else None
    predicted = trial.predictions.get(objective.name)
    if found is not None:
        text = figure(found)
    else:
        text = "-" if predicted is None else f"{significant(predicted)} (predicted)"
    share = f"{found.value / whole.value:.0%}" if found and whole and whole.value > 0 else ""
    limit = "" if objective.limit is None else f", limit {objective.limit:g}"
    title = marked_down(titled(objective) + limit)
    return [title, text, figure(whole) if whole else "", share]


def _noise(front: StudyResult, trial: Trial) -> Iterator[str]:
    """Yield how a trial compares with others within noise."""
    if ties := front.ties.get(trial.number):
        yield f"Within noise of {listed(ties)}."
    if above := front.dominated.get(trial.number):
        yield f"Dominated within noise by {listed(above)}."


def _remarks(trial: Trial) -> list[str]:
    """Return remarks on a trial: grades, what training made of it."""
    graded = dict.fromkeys(grade_note(found) for found in trial.measurements.values())
    return [
        *(f"Latency of {note}." for note in graded if note),
        f"Training: {AS_CUT}." if trial.best_step == 0 else "",
        trial.harm,
    ]


def _rungs(trial: Trial) -> str:
    """Return the table of a trial's values at its rungs; empty if it reached none."""
    if not trial.rungs:
        return ""
    names = list(dict.fromkeys(name for values in trial.rungs.values() for name in values))
    rows = [
        [str(step), *(significant(values.get(name, float("nan")), 4) for name in names)]
        for step, values in sorted(trial.rungs.items())
    ]
    best = trial.best_step
    rows = [[f"{step} (published)" if step == str(best) else step, *row] for step, *row in rows]
    heading = ["step of distillation", *map(marked_down, names)]
    return f"At the rungs:\n\n{_table(heading, rows)}"


def _times(trial: Trial) -> str:
    spent = sorted(trial.seconds.items(), key=lambda one: -one[1])
    parts = (f"{marked_down(phase)} {duration(seconds)}" for phase, seconds in spent)
    return f"Time: {', '.join(parts)}." if spent else ""


def _front(front: StudyResult) -> tuple[list[str], list[list[str]]]:
    """Return heading and rows of the table of the front."""
    members, objectives = front.members, front.objectives.records
    is_timed = any(isfinite(trial.speedup) for trial in members)
    is_sized = any(trial.parameters for trial in members)
    heading = ["trial", "student", *(marked_down(titled(one)) for one in objectives)]
    heading += ["times faster"] * is_timed + ["parameters", "of the teacher"] * is_sized
    rows = []
    for trial in members:
        role = front.role(trial)
        row = [str(trial.number), marked_down(f"{trial.label} ({role})" if role else trial.label)]
        row += [figure(trial.measurements[one.name]) for one in objectives]
        row += [significant(trial.speedup)] * is_timed
        size = millions(trial.parameters) if trial.parameters else "-"
        row += [size, front.share_of_teacher(trial) or "-"] * is_sized
        rows.append(row)
    return heading, rows


def _notes(front: StudyResult) -> list[str]:
    return [*front.baseline_notes, unimproved(front.trials), misled(front.trials)]


def _commands(front: StudyResult, best: Trial | None) -> str:
    """Return the commands that choose, export and report."""
    run = _run(front)
    chosen = [f"protege export {run} --trial {best.number}"] if best else []
    shell = _shell([f"protege pick {run}", *chosen, f"protege report {run}"])
    if run != "RUN":
        return shell
    return f"{shell}\n\nRUN is the URL of this storage, or the study file."


def _run(front: StudyResult) -> str:
    """Return the run as commands name it; the URL of a server may hold a password."""
    return quoted(front.folder) if front.database else "RUN"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    # the dashboard leaves no room between columns
    padded = [[f"{cell}{GAP}" for cell in cells] for cells in (heading, *rows)]
    lines = [padded[0], ["---"] * len(heading), *padded[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shell(lines: Iterable[str]) -> str:
    # spans and not a fenced block, which a long folder would make wider than the page
    return "\n\n".join(code(line, in_table=False) for line in lines)


def _paragraphs(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
