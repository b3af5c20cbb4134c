"""How the tests read a page: parsed, by contrast, and as a browser shows it."""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from studies.benchmarks.chromium import Chromium

Browser = Callable[[Path], tuple[str, str]]
"""Draws a page: its document, and what the console says."""

VOID = {"meta", "link", "br", "input"}
"""Elements that have no end."""


class Page(HTMLParser):
    """What a browser makes of a page before any script runs.

    Attributes:
        tags: Every element that was opened, with its attributes.
        text: Everything outside scripts and styles.
        plots: The JSON of every figure, by its name.
        left_open: Elements that were not closed.
    """

    def __init__(self, source: str) -> None:
        HTMLParser.__init__(self)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.plots: dict[str, str] = {}
        self.left_open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.left_open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.left_open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.tags:
            return
        plot = self.tags[-1][1].get("data-plot")
        if "script" in self.left_open and plot:
            self.plots[plot] = gzip.decompress(b64decode(data)).decode()
        elif not {"script", "style"} & set(self.left_open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        return [attributes for name, attributes in self.tags if name == tag]


def shown(page: Path, profile: Path) -> tuple[str, str]:
    """A page as a browser without network draws it, and what its console would say.

    A page of `driven` is waited for until its script has told something, and others until every
    plot is drawn.
    """
    is_driven = 'id: "driven"' in page.read_text(encoding="utf-8")
    drawn = "[...document.querySelectorAll('.plot')].every((one) => one.querySelector('.main-svg'))"
    with Chromium(profile) as started:
        # plots are drawn when they come into view
        tab = started.tab(height_px=900 if is_driven else 20_000)
        tab.open(page)
        tab.wait("document.getElementById('driven')" if is_driven else drawn, 60)
        document = tab.evaluate("document.documentElement.outerHTML")
        return document, "".join(f"CONSOLE {line}\n" for line in tab.console)


def printed(page: Path) -> Path:
    """The same page as if it was about to be printed: every plot is drawn."""
    path = page.with_name("printed.html")
    event = "<script>dispatchEvent(new Event('beforeprint'));</script>"
    path.write_text(page.read_text(encoding="utf-8") + event, encoding="utf-8")
    return path


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2), between 1 and 21."""
    dim, bright = sorted(_luminance(colour) for colour in (one, other))
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, between 0 and 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def driven(source: str, script: str, folder: Path, browser: Browser) -> tuple[Any, str]:
    """What a script finds that drives the page's controls, as JSON, and what the console says.

    The script calls ``tell(found)``, at once or later; ``set(field, value)`` types into a field,
    and ``plots`` is a promise of the drawn plots.
    """
    path = folder / "driven.html"
    helpers = """
    const tell = (found) => { document.body.append(Object.assign(document.createElement("pre"),
      { id: "driven", textContent: btoa(encodeURIComponent(JSON.stringify(found))) })); };
    const set = (field, value) => { field.value = value; field.dispatchEvent(new Event("input")); };
    const plots = new Promise((done) => { const timer = setInterval(() => {
      const found = document.querySelectorAll(".js-plotly-plot .main-svg");
      if (found.length) { clearInterval(timer); done(found); } }, 50); });
    """
    path.write_text(f"{source}<script>{{{helpers}{script}}}</script>", encoding="utf-8")
    document, console = browser(path)
    found = re.search('<pre id="driven">(.*?)</pre>', document)
    assert found, console
    return json.loads(unquote(b64decode(found[1]).decode())), console
