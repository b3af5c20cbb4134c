"""The figures of the report, drawn from the frames of `protege.search.report.views`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from protege.search.records.goals import Goal
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, duration, titled
from protege.search.report.views import (
    DOMINATED,
    FRONT,
    NAIVE,
    OVER,
    STOPPED,
    TEACHER,
    TRIAL,
)


class Palette(NamedTuple):
    """Colours of the page and its figures, as hexadecimal RGB."""

    paper: str
    ink: str
    soft: str
    faint: str
    grid: str
    accent: str


LIGHT = Palette("#ffffff", "#1b1f27", "#565e6c", "#a1a8b4", "#e4e7ec", "#2158d0")
"""Colours of the figures."""

DARK = Palette("#15181d", "#e6e9ee", "#a3abb8", "#6a7280", "#2c323b", "#6d9dff")
"""Replacements for `LIGHT`, colour by colour, in dark mode."""

FONT = "system-ui, sans-serif"

PANEL_PX, GAP_PX = 80, 44
"""Height of each panel of sizes, and of the gap between two for a title."""


def scatter(frame: pd.DataFrame, x: Goal, y: Goal, height_px: int) -> go.Figure:
    """Draw two goals of every trial, from `points`; error bars are one standard error."""
    figure = _empty(height_px)
    _border(figure, frame[frame["step"]], x)
    beaten = {"size": 7, "color": LIGHT.faint}
    crosses = {"size": 8, "color": LIGHT.faint, "symbol": "x-thin-open", "line": {"width": 1.5}}
    best = {"size": 10, "color": LIGHT.accent, "line": {"width": 1.5, "color": LIGHT.paper}}
    hollow = {"size": 7, "color": LIGHT.faint, "symbol": "circle-open"}
    kinds = ((STOPPED, hollow), (DOMINATED, beaten), (OVER, crosses), (FRONT, best))
    for kind, marker in kinds:
        _markers(figure, frame[frame["kind"] == kind], kind, marker)
    ring = {"size": 17, "color": LIGHT.ink, "symbol": "diamond-open", "line": {"width": 2}}
    star = {"size": 15, "color": LIGHT.ink, "symbol": "star"}
    for role, marker in ((NAIVE, ring), (TEACHER, star)):
        _markers(figure, frame[frame["role"] == role], role, marker)
    _numbers(figure, frame[frame["labelled"]], x, y)
    _limits(figure, x, y)
    figure.update_xaxes(title_text=_axis_title(x))
    figure.update_yaxes(title_text=_axis_title(y))
    return figure


def growth(frame: pd.DataFrame) -> go.Figure:
    """Draw the hypervolume over trials, from `progress`."""
    figure = _empty(280)
    figure.add_scatter(
        x=frame["trial"].tolist(),
        y=frame["hypervolume"].tolist(),
        mode="lines",
        line={"shape": "hv", "width": 2, "color": LIGHT.accent},
        hovertemplate="after trial %{x}: %{y:.4f}<extra></extra>",
    )
    figure.update_xaxes(title_text="Trial")
    figure.update_yaxes(title_text="Hypervolume", rangemode="tozero")
    return figure


def composition(frame: pd.DataFrame, x: Goal) -> go.Figure:
    """Draw the sizes over a goal, from `sizes`, one panel per size."""
    names = list(frame.columns[3:])
    figure = _panels([SIZES[name] for name in names])
    best = {"size": 8, "color": LIGHT.accent, "line": {"width": 1, "color": LIGHT.paper}}
    beaten = {"size": 6, "color": LIGHT.faint}
    for row, name in enumerate(names, start=1):
        for kind, marker in (("Other trials", beaten), (FRONT, best)):
            part = frame[frame["on_front"] == (kind == FRONT)]
            figure.add_scatter(
                x=part["x"].tolist(),
                y=part[name].map(_plain).tolist(),
                customdata=part["trial"].tolist(),
                hovertemplate=f"trial %{{customdata}}: {SIZES[name]} %{{y}}<extra></extra>",
                mode="markers",
                marker=marker,
                name=kind,
                legendgroup=kind,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    figure.update_xaxes(title_text=_axis_title(x), row=len(names), col=1)
    return figure


def bars(frame: pd.DataFrame) -> go.Figure:
    """Draw the time by phase, from `times`."""
    figure = _empty(26 * len(frame) + 40)
    rows = zip(frame["seconds"], frame["share"], strict=True)
    figure.add_bar(
        y=frame["phase"].tolist(),
        x=frame["seconds"].tolist(),
        text=[f"{duration(spent)} ({_percent(share)})" for spent, share in rows],
        textposition="outside",
        orientation="h",
        hoverinfo="skip",
        marker={"color": LIGHT.accent},
    )
    # space for the text of the longest bar, also on narrow screens
    figure.update_xaxes(visible=False, range=[0, 1.5 * frame["seconds"].max()])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


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
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
    }


def _empty(height_px: int) -> go.Figure:
    figure = go.Figure(layout=layout(height_px))
    style_axes(figure)
    return figure


def _panels(titles: list[str]) -> go.Figure:
    """Return empty panels over one axis, with titles on the upper left."""
    drawn_px = PANEL_PX * len(titles) + GAP_PX * (len(titles) - 1)
    figure = make_subplots(
        rows=len(titles),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=GAP_PX / drawn_px,
        subplot_titles=titles,
    )
    figure.update_layout(layout(drawn_px + 130))
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": LIGHT.soft})
    figure.update_layout(showlegend=True, legend={"y": 1 + 28 / drawn_px})
    style_axes(figure)
    return figure


def style_axes(figure: go.Figure) -> None:
    """Style the axes of a figure."""
    lines = {"gridcolor": LIGHT.grid, "linecolor": LIGHT.faint, "tickcolor": LIGHT.faint}
    figure.update_xaxes(automargin=True, zeroline=False, showline=True, ticks="outside", **lines)
    figure.update_yaxes(automargin=True, zeroline=False, ticks="outside", **lines)


def _plain(value: int | str) -> int | str:
    """Escape text that Plotly would take for markup."""
    return plotted(value) if isinstance(value, str) else value


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "&lt;1%"


def _axis_title(goal: Goal) -> str:
    title = titled(goal)
    if goal is not TRIAL:
        title += f", {'less' if goal.direction == 'minimize' else 'more'} is better"
    return plotted(title)


def _border(figure: go.Figure, corners: pd.DataFrame, x: Goal) -> None:
    """Draw the attainment boundary of the front as a step line."""
    ordered = corners.sort_values("x")
    shape = "hv" if x.direction == "minimize" else "vh"
    figure.add_scatter(
        x=ordered["x"].tolist(),
        y=ordered["y"].tolist(),
        mode="lines",
        line={"shape": shape, "width": 2, "color": LIGHT.accent},
        hoverinfo="skip",
        showlegend=False,
    )


def _markers(figure: go.Figure, part: pd.DataFrame, name: str, marker: Mapping[str, Any]) -> None:
    """Draw one kind of trials with a legend entry, if there are any."""
    if part.empty:
        return
    thin = {"color": marker["color"], "thickness": 1, "width": 3}
    figure.add_scatter(
        x=part["x"].tolist(),
        y=part["y"].tolist(),
        error_x={"array": part["x_spread"].tolist(), **thin},
        error_y={"array": part["y_spread"].tolist(), **thin},
        customdata=part["hover"].tolist(),
        hovertemplate="%{customdata}<extra></extra>",
        mode="markers",
        marker=marker,
        name=name,
    )
    figure.update_layout(showlegend=True)


def _numbers(figure: go.Figure, part: pd.DataFrame, x: Goal, y: Goal) -> None:
    """Draw trial numbers beside their points, on the side of the ideal, which is empty."""
    side = "left" if x.direction == "minimize" else "right"
    figure.add_scatter(
        x=part["x"].tolist(),
        y=part["y"].tolist(),
        text=[f"t{number}" for number in part["trial"]],
        mode="markers+text",
        marker={"size": 16, "opacity": 0},  # invisible; keeps the text off the star
        textposition=f"{'bottom' if y.direction == 'minimize' else 'top'} {side}",
        textfont={"color": LIGHT.soft, "size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _limits(figure: go.Figure, x: Goal, y: Goal) -> None:
    """Draw a dashed line with its value for each limit."""
    line = {"line_dash": "dash", "line_width": 1.5, "line_color": LIGHT.soft}
    if x.limit is not None:
        place = {"annotation_textangle": -90, "annotation_position": "bottom left"}
        figure.add_vline(x.limit, annotation_text=_limit_text(x), **line, **place)
    if y.limit is not None:
        place = {"annotation_position": "bottom right"}
        figure.add_hline(y.limit, annotation_text=_limit_text(y), **line, **place)


def _limit_text(goal: Goal) -> str:
    return plotted(f"limit {goal.limit:g} {goal.unit}".strip())
