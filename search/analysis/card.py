"""The card of one student: its sizes and figures beside the teacher's, and its neighbours."""

from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from protege.search.records.plain import printable, quoted
from protege.search.records.results import kept_layers
from protege.search.records.trial import Trial, sizes_of
from protege.search.records.wording import (
    CHOSEN,
    SIZES,
    figure,
    grade_note,
    millions,
    significant,
)

if TYPE_CHECKING:
    from protege.search.analysis.result import StudyResult

ALWAYS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
"""Sizes that a card shows even if they are the teacher's."""


def card(front: "StudyResult", trial: Trial, why: str) -> list[tuple[str, str, str]]:
    """Return the rows of a student's card: name, value, and ratio to the teacher.

    Args:
        front: A study.
        trial: The trial of the student.
        why: Why it was chosen.
    """
    rows = [*_figures(front, trial), *_sizes(front, trial)]
    rows += [(name, text, "") for name, text in _notes(front, trial, why).items() if text]
    return rows + [(side, brief(front, one), "") for side, one in neighbours(front, trial).items()]


def neighbours(front: "StudyResult", trial: Trial) -> dict[str, Trial]:
    """Return the students one step down and up the front, in order of the first objective."""
    students = front.students
    if trial not in students:
        return {}
    at = students.index(trial)
    sides = {"one step down": at - 1, "one step up": at + 1}
    return {side: students[one] for side, one in sides.items() if 0 <= one < len(students)}


def brief(front: "StudyResult", trial: Trial) -> str:
    """Return a student and its figures in a line."""
    values = [
        f"{printable(name)} {significant(trial.measurements[name].value)}"
        for name in front.objectives.names
        if name in trial.measurements
    ]
    if isfinite(trial.speedup):
        values.append(f"{trial.speedup:.2f} times faster")
    return f"trial {trial.number}, {printable(trial.label)}: {', '.join(values)}"


def front_row(front: "StudyResult", trial: Trial) -> dict[str, str]:
    """Return a student's row in a short table of the front."""
    role = front.role(trial)
    row = {"trial": f"{trial.number}", "student": sizes_of(trial.architecture)}
    row["student"] += f" ({role})" if role else ""
    row |= {name: figure(trial.measurements[name]) for name in front.objectives.names}
    if any(isfinite(one.speedup) for one in front.members):
        row["times faster"] = f"{trial.speedup:.2f}" if isfinite(trial.speedup) else "-"
    if any(one.parameters for one in front.members):
        count = millions(trial.parameters) if trial.parameters else "-"
        share = front.share_of_teacher(trial)
        row["parameters"] = f"{count} ({share})" if share else count
    return row


def student_record(front: "StudyResult", trial: Trial) -> dict[str, Any]:
    """Return a student as JSON values."""
    whole = front.teacher.parameters if front.teacher else None
    return {
        "trial": trial.number,
        "label": trial.label,
        "role": front.role(trial) or "student",
        "state": str(trial.state),
        "objectives": {
            one.name: {
                "value": trial.measurements[one.name].value,
                "error": trial.measurements[one.name].spread,
                "unit": one.unit,
            }
            for one in front.objectives.records
            if one.name in trial.measurements
        },
        "times_faster": trial.speedup,
        "times_faster_error": _speedup_error(trial),
        "parameters": trial.parameters,
        "share_of_teacher": trial.parameters / whole if trial.parameters and whole else nan,
        "architecture": dict(trial.architecture),
        "kept_layers": kept_layers(front.folder, trial),
        "dominated_within_noise_by": list(front.dominated.get(trial.number, ())),
        "neighbours": {side: one.number for side, one in neighbours(front, trial).items()},
        "on_front": trial in front.members,
    }


def export_line(run: str, trial: Trial) -> str:
    """Return the command that exports a student of a run; a storage URL may hold a password."""
    shown = "RUN" if "://" in run else quoted(run)
    return f"protege export {shown} --trial {trial.number}"


def _figures(front: "StudyResult", trial: Trial) -> list[tuple[str, str, str]]:
    teacher = front.teacher.measurements if front.teacher else {}
    rows = []
    for name in front.objectives.names:
        found, own = trial.measurements.get(name), teacher.get(name)
        ratio = ""
        if found and own and own.value > 0:
            ratio = f"{found.value / own.value:.0%} of the teacher"
        rows.append((printable(name), figure(found) if found else "-", ratio))
    if isfinite(trial.speedup):
        error = _speedup_error(trial)
        rows.append(("times faster", f"{trial.speedup:.3g} ± {error:.2g}", ""))
    if trial.parameters:
        share = front.share_of_teacher(trial)
        ratio = f"{share} of the teacher" if share else ""
        rows.append(("parameters", millions(trial.parameters), ratio))
    return rows


def _speedup_error(trial: Trial) -> float:
    """Return the standard error of the speedup, from that of the latency."""
    for found in trial.measurements.values():
        if found.details.get("speedup") is not None and found.value:
            return trial.speedup * found.spread / found.value
    return nan


def _sizes(front: "StudyResult", trial: Trial) -> list[tuple[str, str, str]]:
    own, whole = trial.architecture, front.about.get("teacher", {}).get("architecture") or {}
    shown = []
    for name in (one for one in SIZES if one not in CHOSEN and own.get(one)):
        if whole.get(name, own[name]) != own[name]:
            shown.append(f"{SIZES[name]} {own[name]:,} of {whole[name]:,}")
        elif name in ALWAYS:
            shown.append(f"{SIZES[name]} {own[name]:,}")
    return [("sizes", ", ".join(shown), "")]


def _notes(front: "StudyResult", trial: Trial, why: str) -> dict[str, str]:
    role = front.role(trial)
    above = front.dominated.get(trial.number, ())
    grades = [grade_note(trial.measurements.get(name)) for name in front.objectives.names]
    return {
        "kept layers": kept_layers(front.folder, trial),
        "note": f"this is the {role}" if role else "",
        "chosen": why,
        "dominated within noise by": ", ".join(f"trial {number}" for number in above),
        "latency": "; ".join(dict.fromkeys(filter(None, grades))),
    }
