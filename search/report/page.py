"""The report of a study: one self-contained HTML file."""

from collections import Counter
from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from protege.objectives.latency import ERROR_FLOOR
from protege.search.analysis.advice import advice
from protege.search.analysis.choosing import bounded, knee, pick, timed
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import quoted
from protege.search.records.trial import State, Trial
from protege.search.records.wording import (
    RARELY_CUT,
    SIZES,
    duration,
    grade_note,
    listed,
    misled,
    significant,
    unimproved,
)
from protege.search.report.budgets import budget_control
from protege.search.report.captions import plot_notes
from protege.search.report.parts import render
from protege.search.report.sections.accounting import time_spent
from protege.search.report.sections.convergence import more_trials
from protege.search.report.sections.cuts import depth_or_width
from protege.search.report.sections.distributions import spread_of_calls
from protege.search.report.sections.families import families
from protege.search.report.sections.fidelity import proxy_fidelity
from protege.search.report.sections.heat_maps import heat_maps
from protege.search.report.sections.importance import importances_shown
from protege.search.report.sections.latency import explained
from protege.search.report.sections.layers import heads_and_layers
from protege.search.report.sections.parallel import compared
from protege.search.report.sections.provenance import to_repeat
from protege.search.report.sections.races import races
from protege.search.report.sections.section import Points, Section
from protege.search.report.sections.sizes import made_of
from protege.search.report.summary import conditions, headline, model_name
from protege.search.report.tables import all_trials, baselines, students
from protege.search.report.trade_off import trade_off
from protege.spaces.files.atomic import write_text

HYPERVOLUME = (
    "the share of the room between the teacher and the ideal that the front covers: 0 is the "
    "teacher alone, 1 a student that costs nothing and loses nothing"
)

FLOOR_NOTE = (
    "An error marked (floor) is {} of the latency, the least that is claimed: the measured "
    "deviation between few processes is smaller, which often happens by chance."
)
DOMINATED_NOTE = (
    "A student that is dominated within noise is on the exact front, yet another one is better in "
    "one objective by more than noise and worse in none by more than noise. It is not picked."
)


def write_report(front: StudyResult, path: Path) -> Path:
    """Write the report of a study atomically.

    Raises:
        DiskFull: The disk is full.
    """
    write_text(path, page(front, _csv(front, path.parent)))
    return path


def page(front: StudyResult, csv: str = "") -> str:
    """Return the report as HTML; text from the study is escaped.

    Args:
        front: The study.
        csv: The address of ``front.csv``, if there is such a file.
    """
    best = knee(front).trial if front.students else None
    return render(
        "page.html",
        name=model_name(front.about.get("teacher", {})),
        conditions=conditions(front),
        headline=headline(front, best),
        facts=facts(front),
        trade_off=trade_off(front, best),
        plot_notes=plot_notes(front),
        csv=csv,
        students=students(front),
        baselines=baselines(front),
        notes=notes(front),
        commands=commands(front),
        budget=budget_control(front, bounded(front), timed(front), best) if best else None,
        first_sections=first_sections(front, best),
        compared=compared(front),
        last_sections=last_sections(front),
        trials=all_trials(front),
    )


def _csv(front: StudyResult, folder: Path) -> str:
    """Return the relative address of ``front.csv`` for a page in a folder, if the file exists.

    It lies beside the page, or for the report of a run folder in that folder.
    """
    if (folder / "front.csv").is_file():
        return "front.csv"
    own = folder.absolute().parent == front.folder.absolute()
    return "../front.csv" if own and (front.folder / "front.csv").is_file() else ""


def first_sections(front: StudyResult, best: Trial | None) -> list[Section]:
    """Return the sections before the comparison of all students.

    Args:
        front: The study.
        best: The student at the knee, if there is any student.
    """
    latency = timed(front)
    sentences = advice(front, best, latency)
    advised = Section("advice", "Advice", [Points(sentences)]) if sentences else None
    found = [
        advised,
        families(front),
        depth_or_width(front, latency),
        importances_shown(front),
        heat_maps(front),
    ]
    return [section for section in found if section]


def last_sections(front: StudyResult) -> list[Section]:
    """Return the sections after the comparison of all students."""
    calls = [*spread_of_calls(front), *explained(front)]
    found = [
        made_of(front),
        Section("latency", "What latency is made of", calls) if calls else None,
        races(front),
        proxy_fidelity(front),
        more_trials(front),
        heads_and_layers(front),
        time_spent(front),
        to_repeat(front),
    ]
    return [section for section in found if section]


def facts(front: StudyResult) -> list[tuple[str, str, str]]:
    """Return the key facts of a study as term, figure and explanation."""
    teacher = front.about.get("teacher", {})
    states = Counter(trial.state for trial in front.trials)
    became = ", ".join(f"{states[state]} {state}" for state in State)
    possible = front.about.get("students")
    of_all = f"; {possible} students in the space" if possible else ""
    spent = duration(sum(front.about.get("seconds", {}).values()))
    volume = significant(front.hypervolume) if front.teacher else "unknown"
    return [
        ("Teacher", model_name(teacher), _teacher_sizes(teacher)),
        ("Trials", str(len(front.trials)), became + of_all),
        ("Students on the front", str(len(front.students)), _beside(front)),
        ("Hypervolume", volume, HYPERVOLUME if front.teacher else _no_teacher(front)),
        ("Time spent", spent, "of work, summed over all jobs and runs of the study"),
    ]


def commands(front: StudyResult) -> dict[str, str]:
    """Return example commands: ``export`` of the knee, and ``pick`` with a budget."""
    if not front.students:
        return {}
    best, folder = knee(front).trial, quoted(front.folder)
    budgets = [(objective.name, _budget(best, objective)) for objective in front.objectives.records]
    # prefer a budget that picks the same student
    name, bound = next(
        (one for one in budgets if pick(front, {one[0]: float(one[1])}).trial is best), budgets[0]
    )
    return {
        "export": f"protege export {folder} --trial {best.number}",
        "pick": f"protege pick {folder} --budget {quoted(f'{name}={bound}')}",
    }


def notes(front: StudyResult) -> list[str]:
    """Return notes on baselines, errors, dominance, grades, confirmed figures and training."""
    figures = [(t.number, t.measurements[n]) for t in front.members for n in front.objectives.names]
    floors = {str(one.details[ERROR_FLOOR]) for _, one in figures if ERROR_FLOOR in one.details}
    found = front.baseline_notes
    found += [FLOOR_NOTE.format(share) for share in sorted(floors)]
    found += [DOMINATED_NOTE] if front.dominated else []
    graded: dict[str, list[int]] = {}
    for number, one in figures:
        if note := grade_note(one):
            graded.setdefault(note, []).append(number)
    found += [f"{listed(dict.fromkeys(of))}: latency of {note}." for note, of in graded.items()]
    more = [_overtaken(front), unimproved(front.trials), misled(front.trials)]
    return found + [said for said in more if said]


def _overtaken(front: StudyResult) -> str:
    """Say which students are dominated by confirmed figures, and by which others."""
    if not front.overtaken:
        return ""
    pairs = "; ".join(f"{listed([one])} by {listed(of)}" for one, of in front.overtaken.items())
    return f"By the figures that were confirmed, some students are dominated: {pairs}."


def _budget(trial: Trial, objective: ObjectiveRecord) -> str:
    """Return the trial's value to three digits, rounded so that the trial meets it."""
    value = trial.measurements[objective.name].value
    digits = 2 - floor(log10(abs(value))) if value else 0
    towards = ceil if objective.direction == "minimize" else floor
    return f"{towards(value * 10**digits) / 10**digits:.{max(0, digits)}f}"


def _beside(front: StudyResult) -> str:
    """Explain the front, and name the baselines on it."""
    others = [f"the {front.role(trial)}" for trial in front.members if front.role(trial)]
    beside = f"; {' and '.join(others)} not counted" if others else ""
    return f"no trial is better in one objective and no worse in the rest{beside}"


def _teacher_sizes(teacher: Mapping[str, Any]) -> str:
    own = teacher.get("architecture")
    if own is None:
        return "not recorded"
    named = ("num_decoder_layers", "intermediate_size", *RARELY_CUT[1:])
    return ", ".join(
        [
            own["model_type"],
            f"{own['num_hidden_layers']} layers of {own['hidden_size']}",
            f"{own['num_attention_heads']} heads",
            *(f"{SIZES[name]} {own[name]:,}" for name in named if own.get(name)),
        ]
    )


def _no_teacher(front: StudyResult) -> str:
    """Explain why there is no hypervolume."""
    key = front.about.get("teacher", {}).get("key")
    trial = next((trial for trial in front.trials if trial.key == key), None)
    if trial is None:
        return "it is measured against the teacher, which has no trial in this study"
    return f"it is measured against the teacher, whose trial was {trial.state}: {trial.reason}"
