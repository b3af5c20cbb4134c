"""The report of a study: one self-contained HTML file."""

from collections import Counter
from collections.abc import Mapping
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

import pandas as pd

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
    titled,
    unimproved,
)
from protege.search.report import figures, style, views
from protege.search.report.budgets import budget_control
from protege.search.report.parts import Plot, plot, render
from protege.search.report.sections.accounting import time_spent
from protege.search.report.sections.convergence import more_trials
from protege.search.report.sections.cuts import depth_or_width
from protege.search.report.sections.distributions import spread_of_calls
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
    write_text(path, page(front))
    return path


def page(front: StudyResult) -> str:
    """Return the report as HTML; text from the study is escaped."""
    best = knee(front).trial if front.students else None
    return render(
        "page.html",
        name=model_name(front.about.get("teacher", {})),
        conditions=conditions(front),
        headline=headline(front, best),
        facts=facts(front),
        trade_offs=trade_offs(front),
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


def first_sections(front: StudyResult, best: Trial | None) -> list[Section]:
    """Return the sections before the comparison of all students.

    Args:
        front: The study.
        best: The student at the knee, if there is any student.
    """
    latency = timed(front)
    sentences = advice(front, best, latency)
    advised = Section("advice", "Advice", [Points(sentences)]) if sentences else None
    found = [advised, depth_or_width(front, latency), importances_shown(front), heat_maps(front)]
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


def trade_offs(front: StudyResult) -> list[Plot]:
    """Plot every pair of objectives, the first one large."""
    plots: list[Plot] = []
    for x, y in views.pairs(front.objectives.records):
        frame = views.points(front, x, y)
        height_px = 400 if plots else 540
        others = views.baselines(front, x, y)
        figure = figures.scatter(frame, x, y, height_px, others)
        own = front.objectives.records
        axes = [-1 if one is style.TRIAL else own.index(one) for one in (x, y)]
        figure.update_layout(meta={"axes": axes}, uirevision="kept")  # for budget.js
        title = f"{titled(y)} by trial" if x is style.TRIAL else f"{titled(y)} against {titled(x)}"
        plots.append(plot(f"pair-{len(plots)}", title, _said(frame, others, x, y), figure))
    return plots


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
    """Return notes on baselines, errors, dominance, grades and training."""
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
    return found + [said for said in [unimproved(front.trials), misled(front.trials)] if said]


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


def _said(
    frame: pd.DataFrame, baselines: pd.DataFrame, x: ObjectiveRecord, y: ObjectiveRecord
) -> str:
    """Describe a scatter plot in words."""
    best = frame[frame["kind"] == style.FRONT].sort_values("x")
    says = f"Scatter plot of {len(frame)} trials, {len(best)} of them on the front."
    if len(baselines):
        says += f" Squares are the baselines {', '.join(baselines['name'])}."
    if best.empty:
        return says
    first, last = (
        f"{titled(y)} {significant(at.y)} at {titled(x)} {significant(at.x)}"
        for at in (best.iloc[0], best.iloc[-1])
    )
    return f"{says} The front runs from {first} to {last}."


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
