"""The figures of the report, drawn from the frames of `protege.search.report.views`."""

import pandas as pd
import plotly.graph_objects as go

from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, duration
from protege.search.report.scatter import axis_title
from protege.search.report.style import LIGHT, blank, draw_trials, stacked

PANEL_PX, GAP_PX = 80, 44
"""Height of each panel of sizes, and of the gap between two for a title."""


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
    figure.update_xaxes(title_text=axis_title(x), showticklabels=True, **last)
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
