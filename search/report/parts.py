"""Building blocks of pages: tables, plots, templates."""

import gzip
import re
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from protege.search.records.plain import printable
from protege.search.report.style import DARK, LIGHT
from protege.spaces import BadInput

Figure = go.Figure
"""What the figures of a front are; only this folder imports Plotly."""


class NotShown(BadInput):
    """A figure cannot be drawn from this study; the message says why."""


class TableColumn(NamedTuple):
    """A column of a table: its heading and type."""

    title: str
    holds: Literal["number", "text", "sentence"] = "number"


class Cell(NamedTuple):
    """A formatted value, with its standard error and a mark on the error, if any."""

    text: str
    spread: str = ""
    mark: str = ""


class Table(NamedTuple):
    """A table; the first cell of a row names the row."""

    columns: list[TableColumn]
    rows: list[list[Cell]]


class Plot(NamedTuple):
    """A figure as JSON, with its title and a description for screen readers."""

    name: str
    title: str
    says: str
    spec: str
    height_px: int


def plot(name: str, title: str, says: str, figure: go.Figure) -> Plot:
    """Convert a figure for a page."""
    return Plot(name, title, says, figure.to_json(), figure.layout.height)


def render(template: str, **given: Any) -> str:
    """Render a template beside this file as HTML; all values are escaped."""
    environment = Environment(
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"headings": headings, "packed": packed}
    palettes = {"light": LIGHT._asdict(), "dark": DARK._asdict()}
    return environment.get_template(template).render(plotly_js=_plotly(), **palettes, **given)


def headings(html: str) -> list[tuple[str, Markup]]:
    """Return id and heading of each section that has an id, for a table of contents."""
    found = re.findall(r'<section id="([^"]+)"[^>]*>\s*<h2>(.*?)</h2>', html, re.DOTALL)
    return [(name, Markup(title)) for name, title in found]


def _shown(value: Any) -> Any:
    """Escape invisible characters, such as bidirectional controls."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _plotly() -> str:
    """Return Plotly's script, compressed to a third of its size."""
    return packed(get_plotlyjs())


def packed(text: str) -> str:
    """Return a text compressed, as Base64; the page unpacks it."""
    return b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _source(template: str) -> str:
    return files("protege.search.report").joinpath(template).read_text(encoding="utf-8")
