"""Draw a scatter plot as SVG in the page: it is seen at once, and Plotly replaces it later.

Places are shares of the plot in percent, so that the picture is as wide as its page; sizes of marks
and texts are pixels. Colours are variables of the page, so that they follow its colour scheme.
"""

from collections.abc import Iterator, Mapping
from html import unescape
from itertools import pairwise
from math import ceil, cos, floor, log10, pi, sin
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from protege.search.report.style import CHOSEN, LIGHT

DASHES = {"dash": "9 6", "dot": "2 3"}
"""Dash patterns by Plotly's names."""

COLOURS = {colour: f"var(--{name})" for name, colour in LIGHT._asdict().items()}

TICKS, MARGIN = 7, 0.06
"""About how many ticks an axis has, and its room beside the outermost values."""

BESIDE_PX, BELOW_PX = 9, 16
"""The distance of a text from its point."""


class Axis(NamedTuple):
    """The range of an axis."""

    low: float
    high: float

    @classmethod
    def around(cls, values: list[float]) -> "Axis":
        """Return an axis on which all values have room."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        room = MARGIN * (high - low) or abs(low) / 10 or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values on the axis with their texts."""
        least = (self.high - self.low) / TICKS
        power = 10.0 ** floor(log10(least))
        step = power * next(each for each in (1, 2, 5, 10) if each * power >= least * 0.999)
        places = max(0, -floor(log10(step)))
        first, last = ceil(self.low / step), floor(self.high / step)
        return [(n * step, f"{n * step:,.{places}f}") for n in range(first, last + 1)]


class Plane(NamedTuple):
    """Both axes."""

    x: Axis
    y: Axis

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Plane":
        """Return the axes of a figure."""
        lines = spec["layout"]["shapes"]
        axes = []
        for axis in "xy":
            own = (trace[axis] for trace in spec["data"])
            values = [value for part in own for value in part if value is not None]
            values += [line[f"{axis}0"] for line in lines if line[f"{axis}ref"] == axis]
            for trace in spec["data"]:
                errors = trace.get(f"error_{axis}", {}).get("array", ())
                for value, error in zip(trace[axis], errors, strict=False):
                    values += [value - error, value + error]
            axes.append(Axis.around(values))
        return cls(*axes)

    def left(self, x: float) -> str:
        """Return a horizontal place."""
        return f"{100 * self.x.share(x):.2f}%"

    def top(self, y: float) -> str:
        """Return a vertical place; SVG counts from the top."""
        return f"{100 * (1 - self.y.share(y)):.2f}%"

    def line(self, one: tuple[float, float], other: tuple[float, float], **given: Any) -> str:
        """Return a line between two points."""
        start = {"x1": self.left(one[0]), "y1": self.top(one[1])}
        return _tag("line", **start, x2=self.left(other[0]), y2=self.top(other[1]), **given)


def picture(spec: Mapping[str, Any], chosen: tuple[float, float] | None = None) -> Markup:
    """Return a figure of `protege.search.report.scatter` as HTML.

    Args:
        spec: The figure.
        chosen: The place of a student to mark, if any.
    """
    plane = Plane.of(spec)
    marked = [trace for trace in spec["data"] if "name" in trace]
    marked += _ring(chosen) if chosen else []
    marks = [_mark(f"mark-{at}", trace["marker"]) for at, trace in enumerate(marked)]
    parts = [_tag("defs", "".join(marks)), *_axes(plane, spec["layout"])]
    parts += _lines_across(plane, spec["layout"])
    for trace in spec["data"]:
        parts += [*_line(plane, trace), *_bars(plane, trace)]
    for at, trace in enumerate(marked):
        places = zip(trace["x"], trace["y"], strict=True)
        parts += [
            _tag("use", href=f"#mark-{at}", x=plane.left(x), y=plane.top(y)) for x, y in places
        ]
    for trace in spec["data"]:
        parts += _texts(plane, trace)
    # all parts are made by _tag, which escapes
    legend = _tag("p", "".join(_legend(marked)))
    return Markup(_tag("div", legend + _tag("svg", "".join(parts)), class_="static"))


def _tag(name: str, content: str = "", **attributes: Any) -> str:
    """Return an element; `content` is HTML, attributes are escaped."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{content}</{name}>"


def _text(content: str, **attributes: Any) -> str:
    """Return a text, which Plotly's figures hold escaped."""
    return _tag("text", str(escape(unescape(content))), **attributes)


def _turned(content: str, place: tuple[str, str], **attributes: Any) -> str:
    """Return a text that runs upwards from a place."""
    turned = _text(content, transform="rotate(-90)", **attributes)
    return _tag("svg", turned, x=place[0], y=place[1], overflow="visible")


def _ring(place: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"x": [place[0]], "y": [place[1]], "marker": CHOSEN, "name": "Chosen", "legendrank": 1}]


def _axes(plane: Plane, layout: Mapping[str, Any]) -> Iterator[str]:
    """Yield grid, ticks and titles."""
    grid, faint = COLOURS[LIGHT.grid], COLOURS[LIGHT.faint]
    for value, text in plane.x.ticks():
        at = plane.left(value)
        yield _tag("line", x1=at, x2=at, y1="0", y2="100%", stroke=grid)
        yield _text(text, x=at, y="100%", dy=20, text_anchor="middle")
    for value, text in plane.y.ticks():
        at = plane.top(value)
        yield _tag("line", x1="0", x2="100%", y1=at, y2=at, stroke=grid)
        yield _text(text, x="0", y=at, dx=-BESIDE_PX, dy="0.35em", text_anchor="end")
    yield _tag("line", x1="0", x2="100%", y1="100%", y2="100%", stroke=faint)
    title = layout["xaxis"]["title"]["text"]
    yield _text(title, x="50%", y="100%", dy=42, text_anchor="middle", class_="title")
    title = layout["yaxis"]["title"]["text"]
    yield _turned(title, ("0", "50%"), y=-46, text_anchor="middle", class_="title")


def _lines_across(plane: Plane, layout: Mapping[str, Any]) -> Iterator[str]:
    """Yield limits and lines of equal speed with their texts."""
    for shape, note in zip(layout["shapes"], layout["annotations"], strict=True):
        style = _stroke(shape["line"])
        fill = COLOURS[note["font"]["color"]]
        if shape["xref"] == "x":
            at = plane.left(shape["x0"])
            yield _tag("line", x1=at, x2=at, y1="0", y2="100%", **style)
            if "textangle" in note:
                yield _turned(note["text"], (at, "100%"), x=4, y=-4, fill=fill)
            else:
                yield _text(note["text"], x=at, y="100%", dx=3, dy=-4, fill=fill)
        else:
            at = plane.top(shape["y0"])
            yield _tag("line", x1="0", x2="100%", y1=at, y2=at, **style)
            place = {"x": "100%", "y": at, "dx": -3, "dy": -4}
            yield _text(note["text"], **place, text_anchor="end", fill=fill)


def _line(plane: Plane, trace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of a line; a step line turns a corner between two points."""
    if trace["mode"] != "lines":
        return
    style, shape = _stroke(trace["line"]), trace["line"].get("shape")
    for one, other in pairwise(zip(trace["x"], trace["y"], strict=True)):
        if None in (*one, *other):
            continue
        corner = {"hv": (other[0], one[1]), "vh": (one[0], other[1])}.get(shape, one)
        yield plane.line(one, corner, **style) if corner != one else ""
        yield plane.line(corner, other, **style)


def _bars(plane: Plane, trace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the error bars of points."""
    for axis in "xy":
        bars = trace.get(f"error_{axis}")
        if bars is None:
            continue
        stroke = COLOURS[bars["color"]]
        for x, y, error in zip(trace["x"], trace["y"], bars["array"], strict=True):
            across = (error, 0) if axis == "x" else (0, error)
            low, high = ((x + sign * across[0], y + sign * across[1]) for sign in (-1, 1))
            yield plane.line(low, high, stroke=stroke)


def _texts(plane: Plane, trace: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts beside points."""
    if "text" not in trace:
        return
    height, side = trace["textposition"].split()
    shift = -BESIDE_PX if side == "left" else BESIDE_PX
    style: dict[str, Any] = {"dx": shift}
    style |= {"dy": BELOW_PX if height == "bottom" else BESIDE_PX - BELOW_PX}
    style |= {"text_anchor": "end" if side == "left" else "start"}
    style |= {"fill": COLOURS[trace["textfont"]["color"]]}
    for x, y, text in zip(trace["x"], trace["y"], trace["text"], strict=True):
        yield _text(text, x=plane.left(x), y=plane.top(y), **style)


def _stroke(line: Mapping[str, Any]) -> dict[str, Any]:
    dash = DASHES.get(line.get("dash", ""))
    return {
        "stroke": COLOURS[line["color"]],
        "stroke_width": line["width"],
        "stroke_dasharray": dash,
    }


def _mark(name: str, marker: Mapping[str, Any]) -> str:
    """Return the shape of a marker around the origin, to be used by its name."""
    radius, symbol = marker["size"] / 2, marker.get("symbol", "circle")
    colour, line = COLOURS[marker["color"]], marker.get("line", {})
    style: dict[str, Any] = {"fill": colour}
    if "open" in symbol:
        style = {"fill": "none", "stroke": colour, "stroke_width": line.get("width", 1)}
    elif "color" in line:
        style |= {"stroke": COLOURS[line["color"]], "stroke_width": line["width"]}
    path = _tag("path", d=_outline(symbol.removesuffix("-dot").removesuffix("-open"), radius))
    dot = _tag("circle", r=1.5, fill=colour) if symbol.endswith("-dot") else ""
    return _tag("g", path + dot, id=name, opacity=marker.get("opacity"), **style)


def _outline(symbol: str, radius: float) -> str:
    """Return the path of a symbol, of the size that Plotly gives it."""
    if symbol == "circle":
        arc = f"a{radius},{radius} 0 1 0"
        return f"M{-radius},0{arc} {2 * radius},0{arc} {-2 * radius},0"
    if symbol == "x-thin":
        far = f"{radius / 2**0.5:.1f}"
        return f"M-{far},-{far}L{far},{far}M-{far},{far}L{far},-{far}"
    corners = {
        "square": [(radius, 45 + 90 * n, 2**0.5) for n in range(4)],
        "diamond": [(radius, 90 * n, 1.3) for n in range(4)],
        "triangle-up": [(radius, 120 * n - 90, 1.0) for n in range(3)],
        "triangle-down": [(radius, 120 * n + 90, 1.0) for n in range(3)],
        "pentagon": [(radius, 72 * n - 90, 1.0) for n in range(5)],
        "hexagon": [(radius, 60 * n, 1.0) for n in range(6)],
        "star": [(radius, 36 * n - 90, 0.53 if n % 2 else 1.4) for n in range(10)],
    }[symbol]
    places = (
        (far * scale * cos(angle * pi / 180), far * scale * sin(angle * pi / 180))
        for far, angle, scale in corners
    )
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places) + "Z"


def _legend(marked: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the entries of the legend."""
    entries = sorted(enumerate(marked), key=lambda entry: entry[1].get("legendrank", 0))
    for at, trace in entries:
        sample = _tag("svg", _tag("use", href=f"#mark-{at}"), viewBox="-12 -12 24 24")
        yield _tag("span", sample + str(escape(trace["name"])))
