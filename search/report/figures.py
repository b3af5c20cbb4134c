"""The figures of the report, drawn from the frames of `protege.search.report.views`."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, duration, titled
from protege.search.report.style import (
    BASELINE,
    BEATEN,
    BEST,
    DOMINATED,
    FRONT,
    LIGHT,
    NAIVE,
    OVER,
    RIVAL,
    STOPPED,
    TEACHER,
    TRIAL,
    blank,
    draw_trials,
    stacked,
)

PANEL_PX, GAP_PX = 80, 44
"""Height of each panel of sizes, and of the gap between two for a title."""


def scatter(
    frame: pd.DataFrame,
    x: ObjectiveRecord,
    y: ObjectiveRecord,
    height_px: int,
    baselines: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw two objectives of every trial and baseline; error bars are one standard error.

    Args:
        frame: The trials, from `points`.
        x: The objective of the horizontal axis.
        y: The objective of the vertical axis.
        height_px: Height of the figure.
        baselines: The baselines, from `views.baselines`, if there are any.
    """
    figure = blank(height_px)
    _border(figure, frame[frame["step"]], x)
    crosses = {"size": 8, "color": LIGHT.faint, "symbol": "x-thin-open", "line": {"width": 1.5}}
    hollow = {"size": 7, "color": LIGHT.faint, "symbol": "circle-open"}
    kinds = ((STOPPED, hollow), (DOMINATED, BEATEN), (OVER, crosses), (FRONT, BEST))
    for kind, marker in kinds:
        _markers(figure, frame[frame["kind"] == kind], kind, marker)
    ring = {"size": 17, "color": LIGHT.ink, "symbol": "diamond-open", "line": {"width": 2}}
    star = {"size": 15, "color": LIGHT.ink, "symbol": "star"}
    for role, marker in ((NAIVE, ring), (TEACHER, star)):
        _markers(figure, frame[frame["role"] == role], role, marker)
    if baselines is not None and len(baselines):
        _markers(figure, baselines, BASELINE, RIVAL)
        _names(figure, baselines, x, y)
    _numbers(figure, frame[frame["labelled"]], x, y)
    _limits(figure, x, y)
    figure.update_xaxes(title_text=_axis_title(x))
    figure.update_yaxes(title_text=_axis_title(y))
    return figure


def growth(frame: pd.DataFrame) -> go.Figure:
    """Draw the hypervolume over trials, from `progress`."""
    figure = blank(280)
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


def composition(frame: pd.DataFrame, x: ObjectiveRecord) -> go.Figure:
    """Draw the sizes over an objective, from `sizes`, one panel per size."""
    names = list(frame.columns[3:])
    figure = stacked([SIZES[name] for name in names], [PANEL_PX] * len(names), GAP_PX, 130)
    figure.update_layout(showlegend=True, legend={"y": 1 + 28 / (figure.layout.height - 130)})
    figure.update_xaxes(showticklabels=False)
    figure.update_xaxes(matches="x", selector=lambda axis: axis.plotly_name != "xaxis")
    for row, name in enumerate(names, start=1):
        shown = frame.assign(y=frame[name].map(_plain))
        hover = f"trial %{{customdata}}: {SIZES[name]} %{{y}}<extra></extra>"
        draw_trials(figure, shown, ("x", "y", "trial"), hover, showlegend=row == 1, row=row, col=1)
    last = {"row": len(names), "col": 1}
    figure.update_xaxes(title_text=_axis_title(x), showticklabels=True, **last)
    return figure


def bars(frame: pd.DataFrame) -> go.Figure:
    """Draw the time by phase, from `times`."""
    figure = blank(26 * len(frame) + 40)
    rows = zip(frame["seconds"], frame["share"], strict=True)
    figure.add_bar(
        y=frame["phase"].tolist(),
        x=frame["seconds"].tolist(),
        text=[f"{duration(spent)} ({percent(share)})" for spent, share in rows],
        textposition="outside",
        orientation="h",
        hoverinfo="skip",
        marker={"color": LIGHT.accent},
    )
    # space for the text of the longest bar, also on narrow screens
    figure.update_xaxes(visible=False, range=[0, 1.5 * frame["seconds"].max()])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def _plain(value: int | str) -> int | str:
    """Escape text that Plotly would take for markup."""
    return plotted(value) if isinstance(value, str) else value


def percent(share: float) -> str:
    """Return a share in whole percent, for a text of Plotly."""
    return f"{share:.0%}" if share >= 0.005 else "&lt;1%"


def _axis_title(objective: ObjectiveRecord) -> str:
    title = titled(objective)
    if objective is not TRIAL:
        title += f", {'less' if objective.direction == 'minimize' else 'more'} is better"
    return plotted(title)


def _border(figure: go.Figure, corners: pd.DataFrame, x: ObjectiveRecord) -> None:
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


def _numbers(figure: go.Figure, part: pd.DataFrame, x: ObjectiveRecord, y: ObjectiveRecord) -> None:
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


def _names(figure: go.Figure, part: pd.DataFrame, x: ObjectiveRecord, y: ObjectiveRecord) -> None:
    """Draw the names of baselines beside their points, on the side away from the ideal."""
    side = "right" if x.direction == "minimize" else "left"
    figure.add_scatter(
        x=part["x"].tolist(),
        y=part["y"].tolist(),
        text=[plotted(name) for name in part["name"]],
        mode="text",
        textposition=f"{'top' if y.direction == 'minimize' else 'bottom'} {side}",
        textfont={"color": LIGHT.ink, "size": 12},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _limits(figure: go.Figure, x: ObjectiveRecord, y: ObjectiveRecord) -> None:
    """Draw a dashed line with its value for each limit."""
    line = {"line_dash": "dash", "line_width": 1.5, "line_color": LIGHT.soft}
    if x.limit is not None:
        place = {"annotation_textangle": -90, "annotation_position": "bottom left"}
        figure.add_vline(x.limit, annotation_text=_limit_text(x), **line, **place)
    if y.limit is not None:
        place = {"annotation_position": "bottom right"}
        figure.add_hline(y.limit, annotation_text=_limit_text(y), **line, **place)


def _limit_text(objective: ObjectiveRecord) -> str:
    return plotted(f"limit {objective.limit:g} {objective.unit}".strip())
