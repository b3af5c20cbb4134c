"""What pages are put together from: tables, plots, and the frame around them."""

from importlib.resources import files
from typing import Any, Literal, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from protege.search.records.plain import printable
from protege.search.report.figures import DARK, LIGHT


class Column(NamedTuple):
    """A column of a table: its heading, and what it holds."""

    title: str
    holds: Literal["number", "text", "sentence"] = "number"


class Cell(NamedTuple):
    """One value as it is read, its standard error if it has one, and what marks the error."""

    text: str
    spread: str = ""
    mark: str = ""


class Table(NamedTuple):
    """What a table says, row by row; the first cell of a row names it."""

    columns: list[Column]
    rows: list[list[Cell]]


class Plot(NamedTuple):
    """A figure as JSON, what it is called, and what it says to those who cannot see it."""

    name: str
    title: str
    says: str
    spec: str
    height_px: int


def plot(name: str, title: str, says: str, figure: go.Figure) -> Plot:
    """The figure as a page takes it, named and told in words."""
    # to_json writes < and / as escapes, so that no text can end the script it is put in
    return Plot(name, title, says, figure.to_json(), figure.layout.height)


def render(template: str, **given: Any) -> str:
    """One of the templates beside this file as HTML; all that is given it is shown as text."""
    environment = Environment(
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    palettes = {"light": LIGHT._asdict(), "dark": DARK._asdict()}
    return environment.get_template(template).render(plotly_js=get_plotlyjs(), **palettes, **given)


def _shown(value: Any) -> Any:
    """Write out what a browser would not show, such as controls of the text's direction."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(template: str) -> str:
    return files("protege.search.report").joinpath(template).read_text(encoding="utf-8")
