"""The report of a study: one HTML file that opens from disk, asks for nothing and runs anywhere."""

import shlex
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from protege.search import figures, views
from protege.search.accounting import Accounting
from protege.search.goals import Goal
from protege.search.trial import State, Trial
from protege.search.wording import decimals, duration, significant, titled
from protege.spaces.cache import write_text

if TYPE_CHECKING:
    from protege.search.front import Front

HYPERVOLUME = (
    "the share of the room between the teacher and the ideal that the front covers: 0 is the "
    "teacher alone, 1 a student that costs nothing and loses nothing"
)


class Column(NamedTuple):
    """A column of a table; numbers are set to the right."""

    title: str
    is_number: bool = True


class Cell(NamedTuple):
    """One value as it is read, and its standard error if it has one; code is for copying."""

    text: str
    spread: str = ""
    is_code: bool = False


class Table(NamedTuple):
    """What a table says, row by row; the first cell of a row names it."""

    columns: list[Column]
    rows: list[list[Cell]]


class Plot(NamedTuple):
    """A figure as JSON, what it is called, and what it says to those who cannot see it."""

    name: str
    title: str
    says: str
    spec: str
    height_px: int


def write_report(front: "Front", path: Path) -> Path:
    """Write the report of a study as one file, whole or not at all.

    Raises:
        DiskFull: There is no room for it.
    """
    write_text(path, page(front))
    return path


def page(front: "Front") -> str:
    """The report as HTML; all that comes from the study is escaped."""
    environment = Environment(
        undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = files("protege.search").joinpath("report.html").read_text(encoding="utf-8")
    accounting = Accounting(front.about.get("seconds", {}))
    return environment.from_string(template).render(
        name=front.name,
        facts=facts(front),
        trade_offs=trade_offs(front),
        students=students(front),
        pick=pick_command(front),
        growth=growth(front),
        composition=composition(front),
        accounting=accounting,
        spent=duration(accounting.total),
        bars=bars(accounting),
        trials=all_trials(front),
        light=figures.LIGHT._asdict(),
        dark=figures.DARK._asdict(),
        plotly_js=get_plotlyjs(),
    )


def facts(front: "Front") -> list[tuple[str, str, str]]:
    """What the study was and came to: term, figure, and what to know of it."""
    teacher = front.about.get("teacher", {})
    states = Counter(trial.state for trial in front.trials)
    became = ", ".join(f"{states[state]} {state}" for state in State)
    possible = front.about.get("students")
    of_all = f"; {possible} students in the space" if possible else ""
    spent = duration(sum(front.about.get("seconds", {}).values()))
    volume = significant(front.hypervolume) if front.teacher else "unknown"
    return [
        ("Teacher", teacher.get("source", "unknown"), _teacher_sizes(teacher)),
        ("Trials", str(len(front.trials)), became + of_all),
        ("Students on the front", str(len(front.members)), "no other trial beats them in every goal"),
        ("Hypervolume", volume, HYPERVOLUME if front.teacher else _no_teacher(front)),
        ("Time spent", spent, "on the clock, over all runs of the study"),
    ]


def trade_offs(front: "Front") -> list[Plot]:
    """Every pair of goals, the first one large."""
    plots = []
    for x, y in views.pairs(front.goals.goals):
        frame = views.points(front, x, y)
        height = 400 if plots else 540
        title = f"{titled(y)} against {titled(x).lower() if x is views.TRIAL else titled(x)}"
        best = frame[frame["kind"] == views.FRONT].sort_values("x")
        says = f"Scatter plot of {len(frame)} trials, {len(best)} of them on the front."
        if len(best):
            ends = (best.iloc[0], best.iloc[-1])
            said = [f"{titled(y)} {significant(at['y'])} at {titled(x)} {significant(at['x'])}" for at in ends]
            says += f" The front runs from {said[0]} to {said[1]}."
        plots.append(_plot(f"pair-{len(plots)}", title, says, figures.scatter(frame, x, y, height)))
    return plots


def students(front: "Front") -> Table:
    """The front, one row a student, with the line that exports it."""
    folder = shlex.quote(str(front.folder))
    goals, members = front.goals.goals, front.members
    speedups = [_speedup(trial) for trial in members]
    timed = any(map(isfinite, speedups))
    columns = [Column("Trial"), Column("Student", is_number=False)]
    columns += [Column(titled(goal)) for goal in goals]
    columns += [Column("Speed-up")] if timed else []
    columns += [Column(words) for words in ("Layers", "Hidden", "Heads", "Feed-forward")]
    columns += [Column("Policies", is_number=False), Column("To export", is_number=False)]
    measured = [_measured(members, goal) for goal in goals]
    rows = []
    for index, trial in enumerate(members):
        row = [Cell(str(trial.number)), Cell(trial.label), *(cells[index] for cells in measured)]
        row += [Cell(f"{speedups[index]:.2f}×")] if timed else []
        row += [Cell(text) for text in _sizes(trial)]
        rows.append([*row, Cell(f"protege export {folder} --trial {trial.number}", is_code=True)])
    return Table(columns, rows)
