"""The importance of attention heads as a heat map, a table and a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from protege.search.records.heads import HeadScores
from protege.search.records.wording import significant
from protege.search.report.parts import Cell, Plot, Table, TableColumn, plot, render
from protege.search.report.style import LIGHT, stacked
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.files.atomic import atomic, write_text

MEANINGS: dict[HeadsBy, str] = {
    "activation": "how active the head is: the norm of its output",
    "gradient": "how fast the model's loss, or its output, changes with the head",
    "ablation": "how far the model's output moves when the head alone is removed",
    "wanda": "how much the head adds: the norm of its output times the weights that read it",
}
"""Explanations of the criteria."""

SITES = {"heads": "self-attention", "cross_heads": "cross-attention"}

APART = 0.25
"""Gap between two key-value groups of heads, in columns."""

SHARES, EVEN_SHARES = (0, 0.05, 0.2, 0.5, 1), (0, 0.25, 0.5, 0.75, 1)
"""Ticks of the colour scale, with and without stretched low end."""

HOVERED = ["layer", "head", "kv_group", "importance", "share"]
"""Columns shown in hovers."""

TITLE_PX, AXIS_PX, ABOVE_PX = 30, 58, 112
"""Space above and below each panel, and above the first for the colour scale."""


class Panel(NamedTuple):
    """One site of a heat map.

    Attributes:
        title: Its title.
        heads: One row per head: ``layer``, ``head``, ``kv_group``, ``importance``, ``share`` of the
            site's largest importance, ``colour`` in [0, 1], ``x`` of the centre of its column, and
            ``hover``, its text.
    """

    title: str
    heads: pd.DataFrame


def panels(scores: HeadScores) -> list[Panel]:
    """Return the sites of a heat map in order, with key-value groups `APART`."""
    found = []
    for site, heads in scores.table.groupby("site", sort=False):
        largest = heads["importance"].max()
        grouped = heads["kv_group"].nunique() < heads["head"].nunique()
        shown = heads.drop(columns="site").reset_index(drop=True)
        shown["share"] = shown["importance"] / (largest or 1.0)
        shown["colour"] = shown["share"] ** _power(scores)
        shown["x"] = shown["head"] + APART * shown["kv_group"] * grouped
        shown["hover"] = [_hover(*one, grouped=grouped) for one in shown[HOVERED].to_numpy()]
        found.append(Panel(named(str(site)), shown))
    return found


def _hover(
    layer: float, head: float, group: float, importance: float, share: float, *, grouped: bool
) -> str:
    reads = f", KV group {group:.0f}" if grouped else ""
    of_most = f"{share:.1%} of the most important in its panel"
    return (
        f"<b>Layer {layer:.0f}, head {head:.0f}</b>{reads}<br>{significant(importance)}, {of_most}"
    )


def named(site: str) -> str:
    """Return the title of a site: ``Decoder, cross-attention`` for ``decoder.cross_heads``."""
    stack, _, unit = site.partition(".")
    return f"{stack.capitalize()}, {SITES[unit]}"


def least(scores: HeadScores, count: int = 5) -> pd.DataFrame:
    """Return the rows of the least important heads, in ascending order."""
    return scores.table.nsmallest(count, "importance").reset_index(drop=True)


def _power(scores: HeadScores) -> float:
    """Return the exponent of the colour scale; ablation measures squares with large outliers."""
    return 0.5 if scores.by == "ablation" else 1.0


def figure(shown: Sequence[Panel], power: float = 1.0) -> go.Figure:
    """Draw the heat map of `panels`: layers from the top, heads from the left."""
    heights = [_cell_px(panel) * panel.heads["layer"].nunique() for panel in shown]
    outside_px = ABOVE_PX + AXIS_PX
    drawn = stacked([one.title for one in shown], heights, TITLE_PX + AXIS_PX, outside_px)
    drawn.update_layout(
        coloraxis=_colours(drawn.layout.height - outside_px, power),
        margin={"t": ABOVE_PX, "b": AXIS_PX},
    )
    drawn.update_xaxes(showgrid=False, showline=False, fixedrange=True)
    drawn.update_yaxes(
        showgrid=False, showline=False, fixedrange=True, autorange="reversed", title_text="Layer"
    )
    drawn.update_xaxes(ticks="")
    drawn.update_yaxes(ticks="", title_font_size=13)
    for row, panel in enumerate(shown, start=1):
        _draw(drawn, panel, row)
    return drawn


def heat_map(scores: HeadScores) -> Plot:
    """Return the heat map for a page."""
    title = f"By {scores.by}: {MEANINGS[scores.by]}"
    return plot(f"heads-{scores.by}", title, _said(scores), figure(panels(scores), _power(scores)))


def write_heads(scores: HeadScores, source: str, folder: Path) -> tuple[Path, Path]:
    """Write ``heads.html`` and ``heads.csv``, each atomically.

    Returns:
        Both paths.

    Raises:
        DiskFull: The disk is full.
    """
    page, table = folder / "heads.html", folder / "heads.csv"
    write_text(page, heads_page(scores, source))
    with atomic(table) as scratch:
        scores.table.to_csv(scratch, index=False)
    return page, table


def heads_page(scores: HeadScores, source: str) -> str:
    """Return the page of heat map and tables as HTML."""
    heads = scores.table
    sites = "; ".join(
        f"{named(site)}: {len(layers)} layers of {len(layers[0])} heads"
        for site, layers in scores.sites.items()
    )
    facts = [
        ("Criterion", scores.by.capitalize(), MEANINGS[scores.by]),
        ("Heads", str(len(heads)), sites),
    ]
    return render(
        "heads.html",
        name=source,
        facts=facts,
        heat_map=heat_map(scores),
        least=_listed(least(scores)),
        heads=_listed(heads),
    )


def _listed(heads: pd.DataFrame) -> Table:
    places = (
        ["Layer", "Head"]
        if heads["kv_group"].equals(heads["head"])
        else ["Layer", "Head", "KV group"]
    )
    columns = [TableColumn("Site", "text"), *map(TableColumn, places), TableColumn("Importance")]
    rows = [
        [Cell(named(site)), *map(Cell, map(str, at[: len(places)])), Cell(significant(importance))]
        for site, *at, importance in heads.to_numpy()
    ]
    return Table(columns, rows)


def _said(scores: HeadScores) -> str:
    """Describe a heat map in words."""
    parts = []
    for panel in panels(scores):
        ordered = panel.heads.sort_values("importance", kind="stable")
        least_one, most = (
            f"{significant(importance)} in layer {layer:.0f}, head {head:.0f}"
            for layer, head, importance in ordered[HOVERED[:2] + HOVERED[3:4]]
            .iloc[[0, -1]]
            .to_numpy()
        )
        parts.append(
            f"{panel.title}: {len(panel.heads)} heads in {panel.heads['layer'].nunique()} layers, "
            f"from {least_one} to {most}."
        )
    return " ".join(["Heat-map.", *parts])


def _colours(drawn_px: int, power: float) -> dict[str, object]:
    """Return the colour axis: one hue that varies in lightness only."""
    marks = SHARES if power < 1 else EVEN_SHARES
    scale = ", by square root" if power < 1 else ""
    return {
        "cmin": 0,
        "cmax": 1,
        "colorscale": [[0, LIGHT.grid], [0.6, LIGHT.accent], [1, LIGHT.ink]],
        "colorbar": {
            "orientation": "h",
            "thickness": 10,
            "len": 1,
            "x": 0,
            "xanchor": "left",
            "y": 1 + (TITLE_PX + 6) / drawn_px,
            "yanchor": "bottom",
            "title": {
                "text": f"Share of the largest in its panel{scale}",
                "side": "top",
                "font": {"size": 13},
            },
            "tickangle": 0,
            "tickvals": [share**power for share in marks],
            "ticktext": [f"{share:.0%}" for share in marks],
            "outlinewidth": 0,
        },
    }


def _cell_px(panel: Panel) -> int:
    """Return the height of a row, smaller for many layers but large enough to hover."""
    return max(9, min(26, 520 // panel.heads["layer"].nunique()))


def _draw(drawn: go.Figure, panel: Panel, row: int) -> None:
    layers = [of_layer for _, of_layer in panel.heads.groupby("layer")]
    columns = layers[0]
    edges = list(_edges(columns["x"].tolist()))
    drawn.add_heatmap(
        x=[edges[0][0], *(right for _, right, _ in edges)],
        y=list(range(len(layers))),
        z=[_filled(edges, one["colour"].tolist()) for one in layers],
        text=[_filled(edges, one["hover"].tolist()) for one in layers],
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
        coloraxis="coloraxis",
        xgap=1,
        ygap=1,
        row=row,
        col=1,
    )
    step = 1 + (len(columns) - 1) // 16
    drawn.update_xaxes(
        tickvals=columns["x"].tolist()[::step],
        ticktext=columns["head"].tolist()[::step],
        row=row,
        col=1,
    )
    # an axis title of Plotly's may overlap the tick labels
    drawn.add_annotation(
        text=_across(columns),
        x=0.5,
        y=0,
        xref="x domain",
        yref="y domain",
        yshift=-24,
        yanchor="top",
        showarrow=False,
        font={"size": 13},
        row=row,
        col=1,
    )
    drawn.update_yaxes(dtick=1 + (len(layers) - 1) // 16, row=row, col=1)


def _across(columns: pd.DataFrame) -> str:
    size = len(columns) // columns["kv_group"].nunique()
    return f"Head, in groups of {size} that share keys and values" if size > 1 else "Head"


def _edges(middles: Sequence[float]) -> Iterator[tuple[float, float, int | None]]:
    """Yield left, right and head of every column, and None for the head of every gap."""
    for head, middle in enumerate(middles):
        if head and middle - middles[head - 1] > 1:
            yield middles[head - 1] + 0.5, middle - 0.5, None
        yield middle - 0.5, middle + 0.5, head


def _filled(edges: Sequence[tuple[float, float, int | None]], values: Sequence[Any]) -> list[Any]:
    """Return the values by column, None in gaps."""
    return [None if head is None else values[head] for _, _, head in edges]
