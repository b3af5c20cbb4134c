"""Heat maps of depth and width, one for each objective."""

from collections.abc import Iterator
from statistics import median

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.estimates import DEPTHS, WIDTHS
from protege.search.analysis.result import StudyResult
from protege.search.analysis.size_model import ENOUGH
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, listed, significant, titled
from protege.search.report.parts import NotShown, plot
from protege.search.report.sections.section import Block, Section
from protege.search.report.style import LIGHT, blank

DOT = "\N{BLACK CIRCLE}"

TINT = 0.5
"""Opacity of the colours, so that text stands out on all of them in light and in dark."""

WRITTEN = 60
"""Cells up to which a map shows its values as text."""


def axes(front: StudyResult) -> tuple[str, str]:
    """Return the sizes of the vertical and the horizontal axis.

    Raises:
        NotShown: Too few students were finished, or they differ in depth or in width alone.
    """
    models = front.estimates
    if len(models.known) < ENOUGH:
        raise NotShown(
            f"A map of depth and width needs {ENOUGH} finished models; this study has "
            f"{len(models.known)}."
        )
    names = models.sizes
    depth = next((name for name in DEPTHS if name in names), "")
    width = next((name for name in WIDTHS if name in names), "")
    if not depth or not width:
        raise NotShown("The finished students do not differ both in depth and in width.")
    return depth, width


def heat_map(front: StudyResult, objective: ObjectiveRecord) -> pd.DataFrame:
    """Return an objective over depth and width, by `Estimates`.

    Every depth and width of a finished student is in it; other sizes are the median of theirs.

    Returns:
        ``depth``, ``width``, ``value``, ``error`` and ``tried`` (the trials of these two sizes, as
        ``t3 t12``).

    Raises:
        NotShown: See `axes`.
    """
    models, done = front.estimates, front.cut
    depth, width = axes(front)
    trials = models.known
    usual = {n: median([float(t.architecture[n]) for t in done]) for n in models.sizes}
    places = [
        {depth: layers, width: size}
        for layers in sorted({trial.architecture[depth] for trial in trials})
        for size in sorted({trial.architecture[width] for trial in trials})
    ]
    values = models.estimate(objective, [usual | place for place in places])
    frame = pd.DataFrame(
        [(*place.values(), *value) for place, value in zip(places, values, strict=True)],
        columns=["depth", "width", "value", "error"],
    )
    frame["tried"] = [
        listed(t.number for t in done if all(t.architecture[n] == place[n] for n in place))
        for place in places
    ]
    return frame


def figure(frame: pd.DataFrame, objective: ObjectiveRecord, depth: str, width: str) -> go.Figure:
    """Draw the map of `heat_map`; a dot marks what was tried."""
    grid = frame.assign(
        shown=[_shown(value, tried, len(frame)) for value, tried in _columns(frame)],
        hover=[
            f"{SIZES[depth]} {layers}, {SIZES[width]} {size}<br>{significant(value)} ± "
            f"{significant(error, 2)}<br>{f'tried: {tried}' if tried else 'not tried'}"
            for layers, size, value, error, tried in frame.to_numpy()
        ],
    )
    values, shown, hover = (
        grid.pivot_table(index="depth", columns="width", values=name, aggfunc="first")
        for name in ("value", "shown", "hover")
    )
    drawn = blank(120 + 34 * len(values))
    drawn.add_heatmap(
        x=[str(size) for size in values.columns],
        y=[str(layers) for layers in values.index],
        z=values.to_numpy().tolist(),
        text=shown.to_numpy().tolist(),
        texttemplate="%{text}",
        customdata=hover.to_numpy().tolist(),
        hovertemplate="%{customdata}<extra></extra>",
        colorscale=[[0, LIGHT.grid], [1, LIGHT.accent]],
        opacity=TINT,
        textfont={"color": LIGHT.ink},
        colorbar={"thickness": 10, "outlinewidth": 0, "title": {"text": _colour_title(objective)}},
        xgap=2,
        ygap=2,
    )
    flat = {"type": "category", "showgrid": False, "showline": False, "ticks": ""}
    drawn.update_xaxes(title_text=SIZES[width].capitalize(), **flat)
    drawn.update_yaxes(title_text=SIZES[depth].capitalize(), **flat)
    return drawn


def heat_maps(front: StudyResult) -> Section:
    """Return the section with a map of each objective."""
    title = "Depth and width"
    try:
        depth, width = axes(front)
    except NotShown as why:
        return Section("depth-width", title, [str(why)])
    plots: list[Block] = []
    for objective in front.objectives.records:
        frame = heat_map(front, objective)
        best = frame.iloc[int((frame["value"] * objective.sign).argmin())]
        says = (
            f"Heat map of {titled(objective)} over {len(frame)} pairs of {SIZES[depth]} and "
            f"{SIZES[width]}, {(frame['tried'] != '').sum()} of them tried. The best value, "
            f"{significant(best['value'])}, is at {best['depth']} and {best['width']}."
        )
        drawn = figure(frame, objective, depth, width)
        plots.append(plot(f"map-{len(plots)}", titled(objective), says, drawn))
    words = (
        "Each cell is estimated from the sizes of the finished students and the teacher, with the "
        "other sizes at the median of the students. A dot marks depths and widths that were tried; "
        "point at a cell for its error and trials."
    )
    return Section("depth-width", title, [words, *plots])


def _columns(frame: pd.DataFrame) -> Iterator[tuple[float, str]]:
    return zip(frame["value"], frame["tried"], strict=True)


def _shown(value: float, tried: str, cells: int) -> str:
    """Return the text of a cell: a dot if it was tried, and its value if there is room."""
    words = [DOT if tried else "", significant(value) if cells <= WRITTEN else ""]
    return " ".join(filter(None, words))


def _colour_title(objective: ObjectiveRecord) -> str:
    return plotted(objective.unit)
