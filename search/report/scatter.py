"""The scatter plot of trials over two axes, as JSON values of Plotly."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.wording import significant
from protege.search.report.style import (
    AGAIN,
    BASELINE,
    BEATEN,
    BEST,
    BEYOND,
    CONFIRMED,
    DOMINATED,
    EQUAL,
    FRONT,
    HALTED,
    HOLLOW,
    LIGHT,
    NAIVE,
    OF_FAMILIES,
    OVER,
    RING,
    RIVAL,
    SHADED,
    STAR,
    STOPPED,
    TEACHER,
    TIED,
    TRIAL,
    named,
    plain,
)
from protege.spaces.others.table import other_families

KINDS = {
    STOPPED: HALTED,
    OVER: BEYOND,
    DOMINATED: BEATEN,
    TIED: EQUAL,
    SHADED: HOLLOW,
    FRONT: BEST,
}
"""The marker of each kind of trial; later ones are drawn above earlier ones."""

SPEEDS = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Multiples of the teacher's speed at which lines are drawn, where there is room."""

APART, FROM_LIMIT = 0.08, 0.12
"""Minimum distance of such a line to another one and to the limit, as shares of the width."""

COLOURED = {FRONT, SHADED, TIED}
"""The kinds of trials that are coloured by family."""

LEGEND = (FRONT, SHADED, TIED, TEACHER, NAIVE, BASELINE, CONFIRMED, DOMINATED, STOPPED, OVER)
"""The order of the legend."""


class Scatter(NamedTuple):
    """Two objectives of every trial and baseline.

    Students on the front, the teacher, the naive half and baselines have error bars of one standard
    error. Each trace lists the rows of the frames that it shows as ``meta.rows``.

    Attributes:
        frame: The trials, from `views.points`.
        x: The objective of the horizontal axis.
        y: The objective of the vertical axis.
        baselines: The baselines, from `views.baselines`, if there are any.
        confirmed: The confirmed figures, from `views.confirmed`, if there are any.
        teacher_ms: The latency of the teacher, if the horizontal axis is that latency.
    """

    frame: pd.DataFrame
    x: ObjectiveRecord
    y: ObjectiveRecord
    baselines: pd.DataFrame | None = None
    confirmed: pd.DataFrame | None = None
    teacher_ms: float | None = None

    def drawn(self, height_px: int) -> dict[str, Any]:
        """Return the figure."""
        spec = plain(height_px)
        spec["data"] = [*self._border(), *self._trials(), *self._others()]
        lines = [*self._limits(), *self._speeds()]
        spec["layout"] |= {
            "showlegend": any("name" in trace for trace in spec["data"]),
            "shapes": [shape for shape, _ in lines],
            "annotations": [note for _, note in lines],
        }
        for name, axis in (("xaxis", self.x), ("yaxis", self.y)):
            spec["layout"][name] |= {"title": {"text": axis_title(axis)}}
        return spec

    def says(self) -> str:
        """Describe the plot in words."""
        frame = self.frame
        best = frame[frame["kind"].isin([FRONT, SHADED]) & (frame["role"] == "")].sort_values("x")
        said = f"Scatter plot of {len(frame)} trials, {len(best)} of them students on the front."
        if self.baselines is not None and len(self.baselines):
            said += f" Squares are the baselines {', '.join(self.baselines['name'])}."
        if best.empty:
            return said
        first, last = (
            f"{named(self.y)} {significant(at.y)} at {named(self.x)} {significant(at.x)}"
            for at in (best.iloc[0], best.iloc[-1])
        )
        return f"{said} The front runs from {first} to {last}."

    def _border(self) -> list[dict[str, Any]]:
        """Return the attainment boundary of the front, a step line."""
        shape = "hv" if self.x.direction == "minimize" else "vh"
        line = {"shape": shape, "width": 2, "color": LIGHT.accent}
        return [_unnamed(self.frame[self.frame["step"]].sort_values("x"), mode="lines", line=line)]

    def _trials(self) -> list[dict[str, Any]]:
        """Return the markers of trials by kind and role, and numbers beside students.

        The numbers are on the side of the ideal, which is empty.
        """
        frame = self.frame
        parts = [
            (frame[(frame["kind"] == kind) & (frame["role"] == "")], kind, marker)
            for kind, marker in KINDS.items()
        ]
        parts += [
            (frame[frame["role"] == role], role, marker)
            for role, marker in ((NAIVE, RING), (TEACHER, STAR))
        ]
        barred = {FRONT, SHADED, NAIVE, TEACHER}
        found = [
            trace
            for part, name, marker in parts
            for trace in _by_family(part, name, marker, barred=name in barred)
        ]
        part = frame[frame["labelled"]]
        texts = [f"t{number}" for number in part["trial"]]
        return [*found, _texts(part, texts, self._corner("bottom", "top"), LIGHT.soft)]

    def _others(self) -> list[dict[str, Any]]:
        """Return baselines with their names, and confirmed figures joined to their students."""
        found = []
        if self.baselines is not None and len(self.baselines):
            names = [plotted(name) for name in self.baselines["name"]]
            corner = self._corner("top", "bottom", away=True)
            found += _markers(self.baselines, BASELINE, RIVAL, barred=True)
            found.append(_texts(self.baselines, names, corner, LIGHT.ink))
        if self.confirmed is not None and len(self.confirmed):
            line = {"color": LIGHT.soft, "width": 1, "dash": "dot"}
            found.append(_unnamed(_joined(self.confirmed), mode="lines", line=line))
            found += _markers(self.confirmed, CONFIRMED, AGAIN, barred=False)
        return found

    def _corner(self, low: str, high: str, *, away: bool = False) -> str:
        """Return the side of a point towards the ideal, or away from it."""
        left = (self.x.direction == "minimize") != away
        return f"{low if self.y.direction == 'minimize' else high} {'left' if left else 'right'}"

    def _limits(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return a dashed line with its value for each limit."""
        line = {"dash": "dash", "width": 1.5, "color": LIGHT.soft}
        found = []
        for axis, is_x in ((self.x, True), (self.y, False)):
            if axis.limit is not None:
                text = plotted(f"limit {axis.limit:g} {axis.unit}".strip())
                turned = {"textangle": -90, "xanchor": "right"} if is_x else {"xanchor": "right"}
                found.append(_line(axis.limit, line, {"text": text, **turned}, upright=is_x))
        return found

    def _speeds(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return a dotted line for each of some multiples of the teacher's speed."""
        if self.teacher_ms is None or self.frame.empty:
            return []
        line = {"dash": "dot", "width": 1, "color": LIGHT.faint}
        low, high = self.frame["x"].min(), self.frame["x"].max()
        taken = [(self.teacher_ms, APART)]
        taken += [] if self.x.limit is None else [(self.x.limit, FROM_LIMIT)]
        found = []
        for speed in SPEEDS:
            at = self.teacher_ms / speed
            room = all(abs(at - other) >= share * (high - low) for other, share in taken)
            if room and low <= at <= high:
                taken.append((at, APART))
                note = {"text": f"{speed:g}\N{MULTIPLICATION SIGN}", "xanchor": "left"}
                shape, text = _line(at, line, note, upright=True)
                found.append((shape | {"layer": "below"}, text))
        return found


def axis_title(objective: ObjectiveRecord) -> str:
    """Return the title of an axis, which says what is better."""
    title = named(objective)
    if objective is not TRIAL:
        title += f", {'less' if objective.direction == 'minimize' else 'more'} is better"
    return plotted(title)


def _by_family(
    part: pd.DataFrame, name: str, marker: Mapping[str, Any], *, barred: bool
) -> list[dict[str, Any]]:
    """Return the traces of one kind of points, one for each family on the front or near it."""
    if name not in COLOURED:
        return _markers(part, name, marker, barred=barred)
    found = _markers(part[part["family"] == ""], name, marker, barred=barred)
    for family in sorted({*part["family"]} - {""}):
        colour, symbol = family_look(family)
        hollow = {"symbol": f"{symbol}-open"} if "open" in marker.get("symbol", "") else {}
        own = {**marker, "color": colour, "symbol": symbol, **hollow}
        for trace in _markers(part[part["family"] == family], name, own, barred=barred):
            found.append(trace | {"name": f"{name}: {family}"})
    return found


def family_look(family: str) -> tuple[str, str]:
    """Return colour and symbol of a family, the same in all plots."""
    return OF_FAMILIES[other_families().index(family) % len(OF_FAMILIES)]


def _markers(
    part: pd.DataFrame, name: str, marker: Mapping[str, Any], *, barred: bool
) -> list[dict[str, Any]]:
    """Return the trace of one kind of points with a legend entry, if there are any."""
    if part.empty:
        return []
    trace = _trace(part) | {"mode": "markers", "marker": marker, "name": name}
    trace["legendrank"] = 1 + LEGEND.index(name)
    if barred:
        thin = {"color": marker["color"], "thickness": 1, "width": 3}
        trace |= {f"error_{at}": {"array": part[f"{at}_spread"].tolist(), **thin} for at in "xy"}
    return [trace]


def _texts(part: pd.DataFrame, texts: list[str], corner: str, color: str) -> dict[str, Any]:
    """Return texts beside points."""
    return _unnamed(
        part,
        mode="markers+text",
        marker={"size": 16, "opacity": 0},  # invisible; keeps the text off large markers
        text=texts,
        textposition=corner,
        textfont={"color": color, "size": 12},
        cliponaxis=False,
    )


def _unnamed(part: pd.DataFrame, **given: Any) -> dict[str, Any]:
    """Return a trace without legend entry and hover text."""
    return _trace(part) | {"hoverinfo": "skip", "showlegend": False, **given}


def _trace(part: pd.DataFrame) -> dict[str, Any]:
    x, y, rows = (part[name].tolist() for name in ("x", "y", "row"))
    return {"type": "scatter", "x": x, "y": y, "meta": {"rows": rows}}


def _joined(confirmed: pd.DataFrame) -> pd.DataFrame:
    """Return the ends of the lines from students to their confirmed figures; None ends a line."""
    rows: list[tuple[Any, Any, Any]] = []
    for one in confirmed.itertuples():
        rows += [(one.from_x, one.from_y, one.trial_row), (one.x, one.y, one.row)]
        rows.append((None, None, None))
    return pd.DataFrame(rows, columns=["x", "y", "row"], dtype=object)


def _line(
    at: float, line: Mapping[str, Any], note: Mapping[str, Any], *, upright: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a line across the plot, with a text at its lower or right end."""
    own, other = ("x", "y") if upright else ("y", "x")
    ends = {f"{own}0": at, f"{own}1": at, f"{own}ref": own}
    across = {f"{other}0": 0, f"{other}1": 1, f"{other}ref": f"{other} domain"}
    shape = {"type": "line", **ends, **across, "line": dict(line)}
    place = {
        own: at,
        other: 0 if upright else 1,
        f"{own}ref": own,
        f"{other}ref": f"{other} domain",
    }
    style = {"showarrow": False, "yanchor": "bottom", "font": {"color": LIGHT.soft, "size": 12}}
    return shape, {**place, **style, **note}
