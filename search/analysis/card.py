"""The card of one student: its sizes and figures beside the teacher's, and its neighbours."""

from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
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
from protege.spaces.plain_text import html_table

if TYPE_CHECKING:
    from protege.search.analysis.result import StudyResult

ALWAYS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
"""Sizes that a card shows even if they are the teacher's."""


@dataclass(frozen=True)
class ChosenStudent:
    """One student of a front.

    Attributes:
        trial: Its trial.
        front: The front it was picked from.
        why: Why it was chosen, such as ``the best retention within 8 ms``; empty if it was named.
    """

    trial: Trial
    front: "StudyResult"
    why: str = ""

    def export(self, folder: str | Path | None = None) -> Path:
        """Write the student as a Hugging Face checkpoint; see `Front.export`."""
        return self.front.export(self.trial, folder)

    def train(self, data: Any = None, folder: str | Path | None = None, **options: Any) -> Path:
        """Train the student on its teacher's outputs; see `Front.train` for the options."""
        return self.front.train(self.trial, data, folder, **options)

    def export_for(
        self, trainer: Any, data: Any = None, folder: str | Path | None = None, **options: Any
    ) -> Path:
        """Write the student and a script for another trainer; see `Front.export_for`."""
        return self.front.export_for(self.trial, trainer, data, folder, **options)

    def record(self) -> dict[str, Any]:
        """Return the student as JSON values; see docs/getting-started.md."""
        return student_record(self.front, self.trial) | {"why": self.why}

    def __str__(self) -> str:
        rows = card(self.front, self.trial, self.why)
        width = max(len(row[0]) for row in rows)
        broad = max(len(row[1]) for row in rows if row[2])
        lines = [
            f"  {name:<{width}}  {value:<{broad if ratio else 0}}  {ratio}".rstrip()
            for name, value, ratio in rows
        ]
        return "\n".join([f"trial {self.trial.number}: {printable(self.trial.label)}", *lines])

    def __repr__(self) -> str:
        return f"ChosenStudent({self.trial!r}, why={printable(self.why)!r})"

    def _repr_html_(self) -> str:
        rows = [
            {"": name, "student": value, "of the teacher": ratio.removesuffix(" of the teacher")}
            for name, value, ratio in card(self.front, self.trial, self.why)
        ]
        return html_table(rows, f"Trial {self.trial.number}: {self.trial.label}")


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
    return f"trial {trial.number}, {sizes_of(trial.architecture)}: {', '.join(values)}"


def front_row(front: "StudyResult", trial: Trial) -> dict[str, str]:
    """Return a student's row in a short table of the front."""
    role = front.role(trial)
    row = {"trial": f"{trial.number}", "student": sizes_of(trial.architecture)}
    row["student"] += f" ({role})" if role else ""
    row |= {name: figure(trial.measurements[name]) for name in front.objectives.names}
    return row | front.beside_teacher(trial)


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


def study_record(front: "StudyResult") -> dict[str, Any]:
    """Return the result of a study as JSON values."""
    return {
        "study": front.name,
        "folder": front.folder,
        "trials": len(front.trials),
        "ended": front.about.get("ended", ""),
        "hypervolume": front.hypervolume,
        "seconds": dict(front.about.get("seconds", {})),
        "teacher": student_record(front, front.teacher) if front.teacher else None,
        "front": [student_record(front, trial) for trial in front.students],
    }


def shown_path(folder: Path) -> str:
    """Return a path as short as a command needs it here."""
    absolute = folder.absolute()
    is_inside = absolute.is_relative_to(Path.cwd())
    return str(absolute.relative_to(Path.cwd()) if is_inside else absolute)


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
