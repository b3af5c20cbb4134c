"""Parallel coordinates of the finished students, with brushing."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.result import StudyResult
from protege.search.analysis.size_model import free_sizes
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, significant, titled
from protege.search.report.parts import Cell, NotShown, Plot, Table, TableColumn, plot
from protege.search.report.sections.section import Captioned, joined
from protege.search.report.style import FRONT, LIGHT, blank

OTHERS, NOT_KEPT = "Other finished students", "Not kept"

LEVELS = 8
"""Values of a size up to which all are written along its axis."""

AXIS_PX = 84
"""Room for one axis on a narrow screen, where the plot is scrolled sideways."""


class Comparison(NamedTuple):
    """The parallel coordinates with the table that they filter.

    Attributes:
        plot: The plot.
        titles: The titles of its axes.
        table: The same students, in the same order.
        least_px: The width that the plot needs.
        data: The JSON that the script keeps students by.
    """

    plot: Plot
    titles: list[str]
    table: Captioned
    least_px: int
    data: dict[str, Any]


def parallel(front: StudyResult) -> pd.DataFrame:
    """Return the sizes and the objectives of the finished students, in the order of trials.

    Returns:
        ``trial``, ``on_front``, each size in which they differ, and each objective.

    Raises:
        NotShown: Fewer than two students were finished.
    """
    done = front.finished
    if len(done) < 2:
        raise NotShown("There are no two finished students to compare.")
    members = {trial.number for trial in front.members}
    names = free_sizes(done)
    rows = [
        {"trial": trial.number, "on_front": trial.number in members}
        | {name: trial.architecture.get(name) or 0 for name in names}
        | {name: trial.measurements[name].value for name in front.objectives.names}
        for trial in done
    ]
    return pd.DataFrame(rows)


def axis_title(front: StudyResult, name: Hashable) -> str:
    """Return the title of a size's or an objective's axis."""
    known = {one.name: titled(one) for one in front.objectives.records}
    return known.get(str(name)) or SIZES[str(name)].capitalize()


def figure(front: StudyResult, frame: pd.DataFrame) -> go.Figure:
    """Draw the lines of `parallel`; those on the front stand out.

    Lines on ordinary axes, not Plotly's `Parcoords`: that needs WebGL and code made at run time,
    which the report forbids. ``parallel.js`` makes the first trace of the lines that are not kept.
    """
    own = frame[frame.columns[2:]].astype(float)
    low, span = own.min(), own.max() - own.min()
    places = ((own - low) / span.where(span > 0)).fillna(0.5)
    titles = [axis_title(front, name) for name in own]
    drawn = blank(400)
    dimmed = frame["on_front"].isna()  # none at first
    kinds = ((NOT_KEPT, dimmed, LIGHT.grid), (OTHERS, ~frame["on_front"], LIGHT.faint))
    for name, rows, color in (*kinds, (FRONT, frame["on_front"], LIGHT.accent)):
        drawn.add_scatter(
            **_lines(places[rows], frame[rows], titles),
            mode="lines+markers",
            line={"color": color, "width": 1.5},
            marker={"color": color, "size": 5},
            unselected={"marker": {"opacity": 1}},
            name=name,
            hovertemplate="%{text}<extra></extra>",
        )
    for at, name in enumerate(map(str, own)):
        _write_levels(drawn, at, own[name], float(low[name]), float(span[name]))
    drawn.update_xaxes(
        side="top",
        tickvals=list(range(len(titles))),
        ticktext=[plotted(title).replace(" ", "<br>") for title in titles],
        range=[-0.3, len(titles) - 0.4],
        gridcolor=LIGHT.faint,
        showline=False,
        ticks="",
        fixedrange=True,
    )
    drawn.update_yaxes(visible=False, range=[-0.06, 1.06], fixedrange=True)
    drawn.update_layout(
        showlegend=True,
        legend={"y": -0.02, "yanchor": "top"},
        dragmode="select",
    )
    return drawn


def _lines(places: pd.DataFrame, frame: pd.DataFrame, titles: list[str]) -> dict[str, list[Any]]:
    """Return the coordinates and the hover texts of one trace: each line ends with a gap."""
    found: dict[str, list[Any]] = {"x": [], "y": [], "text": []}
    for (_, place), (trial, _, *own) in zip(
        places.iterrows(), frame.itertuples(index=False), strict=True
    ):
        words = [
            f"t{trial}, {plotted(title)}: {_number(one)}"
            for title, one in zip(titles, own, strict=True)
        ]
        found["x"] += [*range(len(titles)), None]
        found["y"] += [*place.tolist(), None]
        found["text"] += [*words, None]
    return found


def _write_levels(drawn: go.Figure, at: int, own: pd.Series, low: float, span: float) -> None:
    """Write the values along an axis: those of a size, else the ends and the middle."""
    levels = sorted(set(own))
    if len(levels) > LEVELS or not all(level.is_integer() for level in levels):
        levels = [low, low + span / 2, low + span] if span else [low]
    for level in levels:
        drawn.add_annotation(
            x=at,
            y=(level - low) / span if span else 0.5,
            text=f"{level:,.0f}" if level.is_integer() else significant(level),
            showarrow=False,
            xanchor="left",
            xshift=5,
            bgcolor=LIGHT.paper,
            opacity=0.85,
            font={"size": 11, "color": LIGHT.soft},
        )


def compared(front: StudyResult) -> Comparison | None:
    """Return the comparison, or None if there are no two finished students."""
    try:
        frame = parallel(front)
    except NotShown:
        return None
    titles = [axis_title(front, name) for name in frame.columns[2:]]
    says = (
        f"Parallel coordinates: one line for each of {len(frame)} finished students, "
        f"{int(frame['on_front'].sum())} of them on the front, over the axes {joined(titles)}. The "
        "table below holds the same."
    )
    shown = plot("parallel", "Parallel coordinates", says, figure(front, frame))
    table = Captioned("Finished students compared", _table(titles, frame))
    data = {
        "trials": frame["trial"].tolist(),
        "values": frame[frame.columns[2:]].astype(float).to_numpy().tolist(),
        "titles": titles,
        "on_front": frame["on_front"].tolist(),
    }
    return Comparison(shown, titles, table, AXIS_PX * (len(titles) + 1), data)


def _table(titles: list[str], frame: pd.DataFrame) -> Table:
    columns = [TableColumn("Trial"), TableColumn("On the front", "text")]
    columns += map(TableColumn, titles)
    rows = [
        [Cell(str(trial)), Cell("yes" if on_front else "no"), *(Cell(_number(one)) for one in own)]
        for trial, on_front, *own in frame.itertuples(index=False)
    ]
    return Table(columns, rows)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else significant(value)
