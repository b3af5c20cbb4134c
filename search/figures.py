"""The figures of the report: for each, one function decides what is shown, another draws it."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations, product
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from protege.objectives import Measurement
from protege.search.goals import Goal
from protege.search.trial import State, Trial
from protege.search.wording import SIZES, duration, significant, titled

if TYPE_CHECKING:
    from protege.search.front import Front


class Palette(NamedTuple):
    """Colours of page and figures, as hexadecimal RGB."""

    paper: str
    ink: str
    soft: str
    faint: str
    grid: str
    accent: str


LIGHT = Palette("#ffffff", "#1b1f27", "#565e6c", "#a1a8b4", "#e4e7ec", "#2158d0")
DARK = Palette("#15181d", "#e6e9ee", "#a3abb8", "#6a7280", "#2c323b", "#6d9dff")
"""Figures are drawn in `LIGHT`; the page exchanges its colours for these on dark screens."""

FRONT, DOMINATED, OVER = "Front", "Dominated", "Over a limit"
TEACHER, NAIVE = "Teacher", "Naive half (every k-th layer, first units)"

TRIAL = Goal("trial", "", "minimize", None, "")
"""The axis that a single goal is drawn over; the earlier the better, so steps are the best so far."""

HOUSEKEEPING = {"ratio_to_teacher", "clock", "pairs", "processes", "cold_ms", "steps"}
"""Details of measurements that say how they were made; hovers leave them out."""

APART = (0.07, 0.05)
"""Two labels nearer than these shares of a plot's width and height would overlap."""


def pairs(goals: Sequence[Goal]) -> list[tuple[Goal, Goal]]:
    """The goals to draw against each other, x before y.

    What is minimised against what is maximised; any two where all go the same way; a single goal
    against the number of the trial.
    """
    least = [goal for goal in goals if goal.direction == "minimize"]
    most = [goal for goal in goals if goal.direction == "maximize"]
    if len(goals) == 1:
        return [(TRIAL, goals[0])]
    return list(product(least, most)) or list(combinations(goals, 2))


def points(front: "Front", x: Goal, y: Goal) -> pd.DataFrame:
    """The trials that have a value on both axes, in order.

    Returns:
        ``trial``, ``x``, ``x_spread``, ``y``, ``y_spread``, ``kind`` (`FRONT`, `DOMINATED` or
        `OVER`), ``role`` (`TEACHER`, `NAIVE` or empty), ``step`` (no trial within the limits is
        better on both axes), ``labelled`` (on the front, and there is room for its number) and
        ``hover``, as the HTML that Plotly knows.
    """
    members = {trial.number for trial in front.members}
    rows = []
    for trial in front.trials:
        (across, x_spread), (up, y_spread) = _figure(trial, x), _figure(trial, y)
        kind = _kind(front, trial, members)
        row = (trial.number, across, x_spread, up, y_spread, kind, _role(front, trial))
        if isfinite(across) and isfinite(up):
            rows.append((*row, _hover(front, trial)))
    columns = ["trial", "x", "x_spread", "y", "y_spread", "kind", "role", "hover"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["step"] = frame.index.isin(_steps(frame, x, y))
    frame["labelled"] = frame.index.isin(_with_room(frame))
    return frame


def scatter(frame: pd.DataFrame, x: Goal, y: Goal, height: int) -> go.Figure:
    """Draw what `points` found."""
    figure = _empty(height)
    _steps_line(figure, frame, x, y)
    beaten = {"size": 7, "color": LIGHT.faint}
    crosses = {"size": 8, "color": LIGHT.faint, "symbol": "x-thin-open", "line": {"width": 1.5}}
    best = {"size": 10, "color": LIGHT.accent, "line": {"width": 1.5, "color": LIGHT.paper}}
    for kind, marker in ((DOMINATED, beaten), (OVER, crosses), (FRONT, best)):
        _markers(figure, frame[frame["kind"] == kind], kind, marker, _label_corner(x, y))
    ring = {"size": 17, "color": LIGHT.ink, "symbol": "diamond-open", "line": {"width": 2}}
    star = {"size": 15, "color": LIGHT.ink, "symbol": "star"}
    for role, marker in ((NAIVE, ring), (TEACHER, star)):
        _markers(figure, frame[frame["role"] == role], role, marker)
    _limits(figure, x, y)
    figure.update_xaxes(title_text=escape(_axis_title(x), quote=False))
    figure.update_yaxes(title_text=escape(_axis_title(y), quote=False))
    return figure


def progress(front: "Front") -> pd.DataFrame:
    """The ``hypervolume`` after each ``trial``; no rows where the teacher has no values."""
    rows: list[tuple[int, float]] = []
    best: list[Trial] = []
    volume = 0.0
    for trial in front.trials if front.teacher else ():
        # only a trial that joins the front moves it, and only against the few that are on it
        joined = front.goals.front([*best, trial])
        if front.teacher and trial in joined:
            best, volume = joined, front.goals.hypervolume(joined, front.teacher)
        rows.append((trial.number, volume))
    return pd.DataFrame(rows, columns=["trial", "hypervolume"])


def growth(frame: pd.DataFrame) -> go.Figure:
    """Draw what `progress` found."""
    figure = _empty(280)
    style = {"mode": "lines", "line": {"shape": "hv", "width": 2, "color": LIGHT.accent}}
    hover = "after trial %{x}: %{y:.4f}<extra></extra>"
    figure.add_scatter(
        x=frame["trial"].tolist(), y=frame["hypervolume"].tolist(), hovertemplate=hover, **style
    )
    figure.update_xaxes(title_text="Trial")
    figure.update_yaxes(title_text="Hypervolume", rangemode="tozero")
    return figure


def sizes(front: "Front", x: Goal) -> pd.DataFrame:
    """What the complete trials are made of, ordered by one goal.

    Returns:
        ``trial``, ``x``, ``on_front`` and one column for each of `SIZES` that differs between
        trials; one that follows from an earlier one, as heads from the hidden size, is left out.
    """
    members = {trial.number for trial in front.members}
    done = [trial for trial in front.trials if trial.state is State.COMPLETE]
    names = [name for name in SIZES if all(name in trial.architecture for trial in done)]
    rows = [
        [t.number, _figure(t, x)[0], t.number in members, *(t.architecture[n] for n in names)]
        for t in done
    ]
    frame = pd.DataFrame(rows, columns=["trial", "x", "on_front", *names])
    kept = [n for n in names if frame[n].nunique() > 1 and not _follows(frame, n)]
    return frame[["trial", "x", "on_front", *kept]].sort_values("x", ignore_index=True)


def composition(frame: pd.DataFrame, x: Goal) -> go.Figure:
    """Draw what `sizes` found: one panel a size, over a shared axis."""
    names = list(frame.columns[3:])
    figure = make_subplots(rows=len(names), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    figure.update_layout(_layout(110 * len(names) + 90), showlegend=True)
    best = {"mode": "lines+markers", "line": {"width": 1.5, "color": LIGHT.accent}}
    others = {"mode": "markers", "marker": {"size": 6, "color": LIGHT.faint}}
    parts = (
        (DOMINATED, frame[~frame["on_front"]], others),
        (FRONT, frame[frame["on_front"]], best),
    )
    for row, name in enumerate(names, start=1):
        for kind, part, style in parts:
            figure.add_scatter(
                **style,
                **{"x": part["x"].tolist(), "y": part[name].tolist()},
                **{"name": kind, "legendgroup": kind, "showlegend": row == 1},
                **{"row": row, "col": 1, "customdata": part["trial"].tolist()},
                hovertemplate=f"trial %{{customdata}}: %{{y}} {SIZES[name]}<extra></extra>",
            )
        figure.update_yaxes(title_text=SIZES[name], row=row, col=1)
    _style_axes(figure)
    figure.update_xaxes(title_text=escape(titled(x), quote=False), row=len(names), col=1)
    return figure


def times(seconds: Mapping[str, float]) -> pd.DataFrame:
    """``phase``, ``seconds`` and ``share`` of all, the longest phase first."""
    frame = pd.DataFrame(list(seconds.items()), columns=["phase", "seconds"])
    frame["share"] = frame["seconds"] / (frame["seconds"].sum() or 1.0)
    return frame.sort_values("seconds", ascending=False, ignore_index=True)


def bars(frame: pd.DataFrame) -> go.Figure:
    """Draw what `times` found."""
    figure = _empty(26 * len(frame) + 40)
    pairs_of = zip(frame["seconds"], frame["share"], strict=True)
    figure.add_bar(
        y=frame["phase"].tolist(),
        x=frame["seconds"].tolist(),
        text=[f"{duration(seconds)} ({share:.0%})" for seconds, share in pairs_of],
        **{"orientation": "h", "textposition": "outside", "hoverinfo": "skip"},
        marker={"color": LIGHT.accent},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def _figure(trial: Trial, goal: Goal) -> tuple[float, float]:
    """The trial's value and spread on an axis; not a number where it was not measured."""
    if goal is TRIAL:
        return trial.number, 0.0
    found = trial.measurements.get(goal.name)
    return (found.value, found.spread) if found else (nan, nan)


def _kind(front: "Front", trial: Trial, members: set[int]) -> str:
    if trial.number in members:
        return FRONT
    return DOMINATED if front.goals.feasible(trial) else OVER


def _role(front: "Front", trial: Trial) -> str:
    if front.teacher and trial.number == front.teacher.number:
        return TEACHER
    return NAIVE if trial.key in front.about.get("anchors", ())[1:2] else ""


def _hover(front: "Front", trial: Trial) -> str:
    """The student's label, sizes, policies and measurements, a line each."""
    own = trial.architecture
    named = [f"{words} {own[name]}" for name, words in SIZES.items() if name in own]
    lines = [" · ".join(named[:3]), " · ".join(named[3:5]), " · ".join(named[5:])]
    for goal in front.goals.goals:
        found = trial.measurements.get(goal.name)
        if found is not None:
            spread = f" ± {significant(found.spread, 2)}" if found.spread > 1e-9 else ""
            lines.append(f"{titled(goal)}: {significant(found.value)}{spread}")
            lines.append(_details(found))
    text = [escape(line, quote=False) for line in lines if line]
    return "<br>".join([f"<b>{escape(trial.label, quote=False)}</b>", *text])


def _details(found: Measurement) -> str:
    """The first three details that say more than the value does."""
    words = [
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else significant(value)}"
        for name, value in found.details.items()
        if name not in HOUSEKEEPING and value != found.value
    ]
    return "   " + ", ".join(words[:3]) if words else ""


def _steps(frame: pd.DataFrame, x: Goal, y: Goal) -> pd.Index[int]:
    """The rows within the limits that no other such row is better than on both axes."""
    within = frame[frame["kind"] != OVER]
    costs = pd.DataFrame({"x": within["x"] * x.sign, "y": within["y"] * y.sign})
    costs = costs.sort_values(["x", "y"])
    return costs.index[costs["y"] < costs["y"].cummin().shift(fill_value=float("inf"))]


def _with_room(frame: pd.DataFrame) -> list[int]:
    """The rows on the front whose labels keep `APART`, from left to right."""
    places = frame[["x", "y"]]
    shares = (places - places.min()) / (places.max() - places.min()).replace(0, 1)
    taken: list[tuple[int, float, float]] = []
    for index, at in shares[frame["kind"] == FRONT].sort_values("x").iterrows():
        across, up = float(at["x"]), float(at["y"])
        if all(abs(across - x) > APART[0] or abs(up - y) > APART[1] for _, x, y in taken):
            taken.append((int(str(index)), across, up))
    return [index for index, _, _ in taken]


def _follows(frame: pd.DataFrame, name: str) -> bool:
    """Whether heads are in a fixed proportion to what is already shown."""
    leaders = {
        "num_attention_heads": ["hidden_size"],
        "num_key_value_heads": ["hidden_size", "num_attention_heads"],
    }
    return any((frame[name] / frame[lead]).nunique() == 1 for lead in leaders.get(name, ()))


def _axis_title(goal: Goal) -> str:
    if goal is TRIAL:
        return titled(goal)
    return f"{titled(goal)}, {'less' if goal.direction == 'minimize' else 'more'} is better"


def _label_corner(x: Goal, y: Goal) -> str:
    """Towards the ideal, where nothing is drawn."""
    up = "bottom" if y.direction == "minimize" else "top"
    return f"{up} {'left' if x.direction == 'minimize' else 'right'}"


def _layout(height: int) -> dict[str, Any]:
    return {
        "template": "none",
        "height": height,
        "showlegend": False,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": LIGHT.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 14, "t": 14, "b": 10},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": LIGHT.paper, "font": {"color": LIGHT.ink}},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
    }


def _empty(height: int) -> go.Figure:
    figure = go.Figure(layout=_layout(height))
    _style_axes(figure)
    return figure


def _style_axes(figure: go.Figure) -> None:
    lines = {"gridcolor": LIGHT.grid, "linecolor": LIGHT.faint, "tickcolor": LIGHT.faint}
    figure.update_xaxes(automargin=True, zeroline=False, showline=True, ticks="outside", **lines)
    figure.update_yaxes(automargin=True, zeroline=False, ticks="outside", **lines)


def _steps_line(figure: go.Figure, frame: pd.DataFrame, x: Goal, y: Goal) -> None:
    """The border of what the trials reach: level until the next one, or back from it."""
    corners = frame[frame["step"]].sort_values("x")
    shape = "hv" if x.direction == "minimize" else "vh"
    figure.add_scatter(
        **{"x": corners["x"].tolist(), "y": corners["y"].tolist()},
        **{"mode": "lines", "hoverinfo": "skip", "showlegend": False},
        line={"shape": shape, "width": 2, "color": LIGHT.accent},
    )


def _markers(
    figure: go.Figure, part: pd.DataFrame, name: str, marker: Mapping[str, Any], corner: str = ""
) -> None:
    """One kind of points, named in the legend; numbered if there is a corner to do it in."""
    if part.empty:
        return
    pairs_of = zip(part["trial"], part["labelled"], strict=True)
    thin = {"color": marker["color"], "thickness": 1, "width": 3}
    figure.update_layout(showlegend=True)
    figure.add_scatter(
        **{"x": part["x"].tolist(), "y": part["y"].tolist(), "name": escape(name, quote=False)},
        **{"error_x": {"array": part["x_spread"].tolist(), **thin}},
        **{"error_y": {"array": part["y_spread"].tolist(), **thin}},
        **{"customdata": part["hover"].tolist(), "hovertemplate": "%{customdata}<extra></extra>"},
        **{"mode": "markers+text" if corner else "markers", "textposition": corner or "top left"},
        text=[f"t{trial}" if labelled else "" for trial, labelled in pairs_of],
        marker=marker,
    )


def _limits(figure: go.Figure, x: Goal, y: Goal) -> None:
    """A dashed line for each limit, with its value along it."""
    line = {"line_dash": "dash", "line_width": 1.5, "line_color": LIGHT.soft}
    if x.limit is not None:
        text = f"limit {x.limit:g} {x.unit}".strip()
        down = {"annotation_textangle": -90, "annotation_position": "bottom left"}
        figure.add_vline(x.limit, annotation_text=escape(text, quote=False), **line, **down)
    if y.limit is not None:
        text = f"limit {y.limit:g} {y.unit}".strip()
        along = {"annotation_position": "bottom right"}
        figure.add_hline(y.limit, annotation_text=escape(text, quote=False), **line, **along)
