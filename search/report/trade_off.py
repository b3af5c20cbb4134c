"""The plot of the front, over any two of its axes."""

import json
from itertools import permutations
from math import isfinite
from typing import Any, NamedTuple

import plotly.graph_objects as go
from markupsafe import Markup

from protege.search.analysis.choosing import bounded, timed
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import PARAMETERS, ObjectiveRecord
from protege.search.records.trial import Trial
from protege.search.report import hovers, style, views
from protege.search.report.parts import Plot, plot
from protege.search.report.scatter import Scatter
from protege.search.report.static_plot import picture

HEIGHT_PX = 540

HOVER = "%{customdata}<extra></extra>"


class TradeOff(NamedTuple):
    """The plot of the front as the page draws it: over any two axes, each value stored once.

    Attributes:
        plot: The plot over the first two axes; its traces lack what `data` has.
        picture: The same plot, to be seen until Plotly draws it.
        names: The names of all axes.
        first: The places of the first two axes, horizontal and vertical.
        data: ``axes`` (values and errors of every row), ``hovers`` (the texts of the rows) and
            ``plots`` (by the places of two axes: title, description and figure).
    """

    plot: Plot
    picture: Markup
    names: list[str]
    first: tuple[int, int]
    data: dict[str, Any]


def axes(front: StudyResult) -> list[ObjectiveRecord]:
    """Return what a trade-off can be plotted over: what a budget can bound, and the parameters.

    A single objective is plotted over the trial number too.
    """
    found = [one for one in bounded(front) if one is not PARAMETERS]
    counted = any(trial.parameters for trial in front.trials)
    if counted and PARAMETERS.name not in front.objectives.names:
        found.append(PARAMETERS)
    return [style.TRIAL, *found] if len(front.objectives.records) == 1 else found


def front_figure(
    front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord, height_px: int = HEIGHT_PX
) -> go.Figure:
    """Draw all trials over two axes, with hover texts; see `axes`."""
    spec = _scatter(front, x, y).drawn(height_px)
    texts = _hovers(front)
    for trace in spec["data"]:
        if trace.get("hoverinfo") != "skip":
            trace["customdata"] = [texts[row] for row in trace["meta"]["rows"]]
            trace["hovertemplate"] = HOVER
    return go.Figure(spec)


def front_plots(front: StudyResult) -> list[Plot]:
    """Return a plot of the front for each pair of objectives; see `views.pairs`."""
    return [
        plot(f"pair-{at}", _title(x, y), _scatter(front, x, y).says(), front_figure(front, x, y))
        for at, (x, y) in enumerate(views.pairs(front.objectives.records))
    ]


def trade_off(front: StudyResult, chosen: Trial | None = None) -> TradeOff:
    """Return the plot of the front for the page.

    Args:
        front: The study.
        chosen: The student that the picture marks, if any.
    """
    every = axes(front)
    first = views.pairs(front.objectives.records)[0]
    pairs = [first, *(pair for pair in permutations(every, 2) if pair != first)]
    ring = (views.place(chosen, first[0])[0], views.place(chosen, first[1])[0]) if chosen else None
    seen = picture(_scatter(front, *first).drawn(HEIGHT_PX), ring)
    drawn = {(every.index(x), every.index(y)): _drawn(front, x, y) for x, y in pairs}
    places = next(iter(drawn))
    shown = drawn.pop(places)
    others = {f"{x} {y}": one for (x, y), one in drawn.items()}
    data: dict[str, Any] = {
        "first": places,
        "axes": _values(front, every),
        "hovers": _hovers(front),
        "plots": others,
    }
    own = Plot("pair-0", shown["title"], shown["says"], _json(shown["figure"]), HEIGHT_PX)
    return TradeOff(own, seen, [style.named(one) for one in every], places, data)


def _scatter(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> Scatter:
    """Return what is drawn over two axes."""
    teacher = front.teacher if x is timed(front) else None
    return Scatter(
        views.points(front, x, y),
        x,
        y,
        views.baselines(front, x, y),
        views.confirmed(front, x, y),
        teacher.measurements[x.name].value if teacher else None,
    )


def _drawn(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> dict[str, Any]:
    """Return title, description and figure of one pair of axes; see `_emptied`."""
    scatter = _scatter(front, x, y)
    figure = _emptied(scatter.drawn(HEIGHT_PX))
    return {"title": _title(x, y), "says": scatter.says(), "figure": figure}


def _title(x: ObjectiveRecord, y: ObjectiveRecord) -> str:
    """Return the title of the plot over two axes."""
    name, other = style.named(y), style.named(x)
    return f"{name} by trial" if x is style.TRIAL else f"{name} against {other}"


def _emptied(spec: dict[str, Any]) -> dict[str, Any]:
    """Remove from a figure what the page fills in by the rows of its traces."""
    for trace in spec["data"]:
        for name in ("x", "y"):
            del trace[name]
            if f"error_{name}" in trace:
                del trace[f"error_{name}"]["array"]
        if trace.get("hoverinfo") != "skip":
            trace["hovertemplate"] = HOVER
    return spec


def _values(front: StudyResult, every: list[ObjectiveRecord]) -> list[dict[str, list[Any]]]:
    """Return the values and errors on each axis by row: trials, baselines, confirmed figures."""
    after = (max(trial.number for trial in front.trials) + 1, 0.0)
    again = [values for _, _, values in views.confirmations(front)]
    found = []
    for axis in every:
        places = [views.place(trial, axis) for trial in front.trials]
        places += [
            after if axis is style.TRIAL else views.place(one, axis) for one in front.baselines
        ]
        values = [_rounded(value) for value, _ in places]
        values += [one.get(axis.name) for one in again]
        found.append({"values": values, "errors": [_rounded(error) for _, error in places]})
    return found


def _rounded(value: float) -> float | None:
    """Return a value to the digits that a plot can show, or None if there is none."""
    return float(f"{value:.6g}") if isfinite(value) else None


def _hovers(front: StudyResult) -> list[str]:
    """Return the text of each row: trials, baselines, confirmed figures."""
    ties = {**front.ties, **front.tied_with_front}
    texts = [hovers.of_trial(front, trial, ties) for trial in front.trials]
    texts += [hovers.of_baseline(front, one) for one in front.baselines]
    again = views.confirmations(front)
    return texts + [hovers.of_confirmed(front, trial, values) for _, trial, values in again]


def _json(figure: dict[str, Any]) -> str:
    """Return JSON in which no text can end the surrounding script."""
    return json.dumps(figure, separators=(",", ":")).replace("<", "\\u003c")
