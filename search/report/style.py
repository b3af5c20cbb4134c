"""Words, colours and layout that all figures of the report share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.wording import titled

FRONT, DOMINATED, OVER = "Front", "Dominated", "Over a limit"
SHADED, TIED = "Front within noise", "Tied with the front"
STOPPED, CONFIRMED = "Stopped", "Confirmed"
BASELINE = "Baseline"
TEACHER, NAIVE = "Teacher", "Naive half"

TRIAL = ObjectiveRecord("trial", "", "minimize")
"""The x-axis for one objective alone; minimised, so that the front is the best value so far."""


def named(axis: ObjectiveRecord) -> str:
    """Return the name of an axis with its unit."""
    return "Times faster than the teacher" if axis.name == "speedup" else titled(axis)


class Palette(NamedTuple):
    """Colours of the page and its figures, as hexadecimal RGB."""

    paper: str
    ink: str
    soft: str
    faint: str
    grid: str
    accent: str
    family_1: str
    family_2: str
    family_3: str
    family_4: str
    family_5: str


LIGHT = Palette(
    *("#ffffff", "#1b1f27", "#565e6c", "#a1a8b4", "#e4e7ec", "#2158d0"),
    *("#c2410c", "#0f766e", "#a21caf", "#8a6100", "#be123c"),
)
"""Colours of the figures."""

DARK = Palette(
    *("#15181d", "#e6e9ee", "#a3abb8", "#6a7280", "#2c323b", "#6d9dff"),
    *("#fb923c", "#2dd4bf", "#e879f9", "#facc15", "#fb7185"),
)
"""Replacements for `LIGHT`, colour by colour, in dark mode."""

FONT = "system-ui, sans-serif"

BEST = {"size": 10, "color": LIGHT.accent, "line": {"width": 1.5, "color": LIGHT.paper}}
BEATEN = {"size": 7, "color": LIGHT.faint}
"""Markers of trials on the front, and of others."""

HOLLOW = {"size": 10, "color": LIGHT.accent, "symbol": "circle-open", "line": {"width": 2}}
"""Marker of students on the front that others dominate within noise."""

EQUAL = {"size": 8, "color": LIGHT.accent, "symbol": "circle-open-dot", "line": {"width": 1}}
"""Marker of dominated trials that equal a student on the front within noise."""

HALTED = {"size": 6, "color": LIGHT.faint, "symbol": "circle-open", "opacity": 0.6}
BEYOND = {
    "size": 7,
    "color": LIGHT.faint,
    "symbol": "x-thin-open",
    "line": {"width": 1.5},
    "opacity": 0.6,
}
"""Faint markers of trials that were stopped at a rung, and of those beyond a limit."""

OF_FAMILIES = tuple(
    zip(LIGHT[6:], ("square", "diamond", "triangle-down", "pentagon", "hexagon"), strict=True)
)
"""Colour and symbol of each family but the teacher's own; a sixth one begins again."""

RING = {"size": 17, "color": LIGHT.ink, "symbol": "diamond-open", "line": {"width": 2}}
STAR = {"size": 15, "color": LIGHT.ink, "symbol": "star"}
"""Markers of the naive half and of the teacher."""

AGAIN = {"size": 9, "color": LIGHT.ink, "symbol": "triangle-up"}
"""Marker of confirmed figures."""

CHOSEN = {"size": 22, "color": LIGHT.ink, "symbol": "circle-open", "line": {"width": 3}}
"""Marker of the student that a budget chooses."""

RIVAL = {"size": 12, "color": LIGHT.ink, "symbol": "square-open", "line": {"width": 2}}
"""Marker of baselines."""


Y_AXIS = {
    "automargin": True,
    "zeroline": False,
    "ticks": "outside",
    "gridcolor": LIGHT.grid,
    "linecolor": LIGHT.faint,
    "tickcolor": LIGHT.faint,
}
X_AXIS = {**Y_AXIS, "showline": True}
"""The style of axes."""


def layout(height_px: int) -> dict[str, Any]:
    """Return the layout that all figures share."""
    return {
        "template": "none",
        "height": height_px,
        "showlegend": False,
        "font": {"family": FONT, "size": 13, "color": LIGHT.ink},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 10, "r": 14, "t": 14, "b": 10},
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left",
            "bgcolor": LIGHT.paper,
            "font": {"family": FONT, "color": LIGHT.ink},
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.01,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
    }


def plain(height_px: int) -> dict[str, Any]:
    """Return a figure without traces as JSON values, which are made faster than a `go.Figure`."""
    return {
        "data": [],
        "layout": {**layout(height_px), "xaxis": dict(X_AXIS), "yaxis": dict(Y_AXIS)},
    }


def blank(height_px: int) -> go.Figure:
    """Return a figure without traces."""
    return go.Figure(plain(height_px))


def stacked(
    titles: Sequence[str], heights_px: Sequence[int], gap_px: int, outside_px: int
) -> go.Figure:
    """Return panels without traces, one above the other, with titles on the upper left."""
    drawn_px = sum(heights_px) + gap_px * (len(heights_px) - 1)
    figure = make_subplots(
        rows=len(heights_px),
        cols=1,
        row_heights=heights_px,
        vertical_spacing=gap_px / drawn_px if len(heights_px) > 1 else 0,
        subplot_titles=titles,
    )
    figure.update_layout(layout(drawn_px + outside_px))
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": LIGHT.soft})
    style_axes(figure)
    return figure


def style_axes(figure: go.Figure) -> None:
    """Style the axes of a figure."""
    figure.update_xaxes(X_AXIS)
    figure.update_yaxes(Y_AXIS)


def draw_trials(
    figure: go.Figure, frame: pd.DataFrame, names: tuple[str, str, str], hover: str, **more: Any
) -> None:
    """Draw the trials on the front and all others, from the columns of x, y and hover data."""
    for kind, marker in (("Other trials", BEATEN), (FRONT, BEST)):
        part = frame[frame["on_front"] == (kind == FRONT)]
        x, y, data = (part[name].tolist() for name in names)
        figure.add_scatter(
            x=x,
            y=y,
            customdata=data,
            hovertemplate=hover,
            mode="markers",
            marker=marker,
            name=kind,
            legendgroup=kind,
            **more,
        )
