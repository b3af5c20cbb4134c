"""What the report does in a browser: layout, keyboard, copying, axes, printing, accessibility."""

import json
from pathlib import Path
from typing import Any

import pytest

from protege.search import Front
from protege.search.report import views
from protege.search.report.page import write_report
from protege.search.report.trade_off import axes, front_figure, trade_off
from studies.benchmarks.chromium import Chromium, Tab
from studies.benchmarks.report import large_front, violations
from tests.search.report.drawn import RETENTION, classic, drawn, objective

MARKUP = "<b>x</b>&\"'"


def opened(chromium: Chromium, front: Front, folder: Path, **size: Any) -> Tab:
    """The report in a window, once its first plot is drawn."""
    tab = chromium.tab(**size)
    tab.open(write_report(front, folder / "index.html"))
    tab.wait("document.querySelector('.main-svg .points path')")
    return tab


def marked() -> Front:
    """A study whose names look like markup, with three objectives."""
    objectives = [objective("latency_ms"), RETENTION, objective(MARKUP, "maximize")]
    rows = [(40.0, 1.0, 1.0), (9.0, 0.1, 0.1), (20.0, 0.8, 0.7), (30.0, 0.9, 0.9), (8.0, 0.5, 0.4)]
    return drawn(objectives, rows, name=MARKUP)


@pytest.mark.parametrize(
    ("width_px", "height_px", "dark"),
    [(390, 844, False), (1280, 900, False), (1920, 1080, True)],
    ids=["phone", "laptop", "desktop"],
)
def test_the_page_fits_is_accessible_and_quiet(
    tmp_path: Path,
    pictures: Path,
    chromium: Chromium,
    width_px: int,
    height_px: int,
    dark: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    size = {"width_px": width_px, "height_px": height_px, "dark": dark}
    tab = opened(chromium, large_front(tmp_path, 60), tmp_path, **size)
    tab.screenshot(pictures / f"report-{width_px}-first.png", whole=False)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tab.evaluate("document.querySelectorAll('script[data-plot]').forEach(show)")
    tab.wait("[...document.querySelectorAll('.plot')].every((one) => one.data)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width_px
    assert violations(tab) == []
    assert tab.console == []
    assert tab.screenshot(pictures / f"report-{width_px}.png").stat().st_size > 100_000


def test_plot_and_budgets_are_in_the_first_view_of_a_laptop(
    tmp_path: Path, chromium: Chromium
) -> None:
    tab = opened(chromium, large_front(tmp_path), tmp_path, width_px=1280, height_px=900)
    bottoms = tab.evaluate(
        "['#pair-0', '#budgets', '#chosen'].map((one) => "
        "document.querySelector(one).getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= 900


def test_a_phone_shows_texts_below_the_plot_and_keeps_the_first_column(
    tmp_path: Path, chromium: Chromium
) -> None:
    tab = opened(chromium, marked(), tmp_path, width_px=390, height_px=844)
    point = tab.evaluate("""(() => {
      const point = document.querySelector("#pair-0 .points path");
      point.scrollIntoView({ block: "center" });
      const { x, y, width, height } = point.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()""")
    for shift in (3, 1, 0):
        tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=point[0] + shift, y=point[1])
    tab.wait("document.querySelector('.readout')")
    assert MARKUP in tab.evaluate("document.querySelector('.readout').textContent")
    assert tab.evaluate("document.querySelectorAll('.hovertext, b b').length") == 0
    assert tab.evaluate("getComputedStyle(document.querySelector('.mouse')).display") == "none"
    position = "getComputedStyle(document.querySelector('.scroll tbody th')).position"
    assert tab.evaluate(position) == "sticky"


def test_axes_are_chosen_by_keyboard(tmp_path: Path, chromium: Chromium) -> None:
    front = marked()
    tab = opened(chromium, front, tmp_path)
    tab.evaluate("document.getElementById('axis-y').focus()")
    tab.press("ArrowDown")
    tab.wait("document.getElementById('trade-off-title').textContent.startsWith('<b')")
    assert tab.evaluate("document.getElementById('pair-0').ariaLabel").count(MARKUP) > 0
    x, _, y, *_ = axes(front)
    _same_points(tab, front_figure(front, x, y))
    ring = tab.evaluate(
        "(({ x, y }) => [x[0], y[0]])(document.getElementById('pair-0').data.at(-1))"
    )
    knee = front.knee().trial
    assert ring == [views.place(knee, one)[0] for one in (x, y)]


def test_the_other_axis_takes_the_place_of_one_that_is_chosen_twice(
    tmp_path: Path, chromium: Chromium
) -> None:
    front = classic()
    tab = opened(chromium, front, tmp_path)
    tab.evaluate(
        "(() => { const own = document.getElementById('axis-x'); own.value = '1';"
        "own.dispatchEvent(new Event('change')); })()"
    )
    assert tab.evaluate("document.getElementById('axis-y').value") == "0"
    latency, retention, *_ = axes(front)
    _same_points(tab, front_figure(front, retention, latency))
    assert tab.console == []


def test_the_page_draws_over_every_pair_of_axes_what_python_draws(
    tmp_path: Path, chromium: Chromium
) -> None:
    front = large_front(tmp_path, 60)
    tab = opened(chromium, front, tmp_path)
    every = axes(front)
    assert len(every) == 5
    for x, y in ((2, 1), (3, 4), (4, 0), (0, 2)):
        tab.evaluate(
            f"choices[0].value = '{x}'; choices[1].value = '{y}'; overAxes(); places.join()"
        )
        _same_points(tab, front_figure(front, every[x], every[y]))
    assert len(trade_off(front).data["plots"]) == 19


def _same_points(tab: Tab, figure: Any) -> None:
    """Compare the traces of the drawn plot, but for the ring, with those of a figure."""
    shown = tab.evaluate(
        "document.getElementById('pair-0').data.filter((one) => one.name !== 'Chosen')"
        ".map(({ x, y, customdata }) => [x, y, customdata ?? null])"
    )
    traces = json.loads(figure.to_json())["data"]
    expected = [[one["x"], one["y"], one.get("customdata")] for one in traces]
    assert len(shown) == len(expected)
    for found, own in zip(shown, expected, strict=True):
        for at in (0, 1):
            assert found[at] == [
                one if one is None else pytest.approx(one, rel=1e-5) for one in own[at]
            ]
        assert found[2] == own[2]


def test_a_line_is_copied_to_the_clipboard(tmp_path: Path, chromium: Chromium) -> None:
    front = classic(folder=tmp_path / "my runs" / "toy")
    tab = opened(chromium, front, tmp_path)
    chromium.send(
        "Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    tab.send("Page.bringToFront")
    button = "document.querySelector('.card.chosen [data-copy]')"
    tab.evaluate(f"{button}.focus()")
    tab.press("Enter")
    tab.wait(f"{button}.textContent === 'Copied'")
    line = tab.evaluate("navigator.clipboard.readText()")
    assert line == f"protege export '{tmp_path / 'my runs' / 'toy'}' --trial 2"
    assert tab.evaluate(f"{button}.ariaLabel") == "Copy: Export on the command line, absolute path"


def test_a_budget_is_set_by_keyboard_and_its_next_tenth_is_told(
    tmp_path: Path, chromium: Chromium
) -> None:
    tab = opened(chromium, classic(), tmp_path)
    said = "document.querySelector('.card.chosen .more').textContent"
    assert tab.evaluate(said) == "Latency (ms) 22, 10% more room, buys no other student."
    tab.evaluate("document.querySelector('#budgets [type=number]').focus()")
    tab.send("Input.insertText", text="28")
    tab.wait("document.getElementById('chosen').textContent.includes('within the budget')")
    assert tab.evaluate("document.getElementById('chosen').textContent").startswith("t2: the best")
    more = (
        "Latency (ms) 30.8, 10% more room, buys t3 (4x24-h6-f40-t3): Retention 0.9 instead of 0.8."
    )
    assert tab.evaluate(said) == more
    tab.evaluate("document.querySelector('#budgets [type=range]').focus()")
    tab.press("ArrowUp")
    assert float(tab.evaluate("document.querySelector('#budgets [type=number]').value")) > 28


def test_a_print_is_light_whole_and_without_controls(
    tmp_path: Path, pictures: Path, chromium: Chromium
) -> None:
    tab = opened(chromium, large_front(tmp_path, 40), tmp_path, dark=True)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every((one) => one.data)")
    widest = (
        "Math.max(...[...document.querySelectorAll('.main-svg')].map((one) => one.clientWidth))"
    )
    assert tab.evaluate(widest) <= 700
    colour = "document.getElementById('pair-0').layout.font.color"
    assert tab.evaluate(colour) == "#1b1f27"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert tab.evaluate(colour) != "#1b1f27"
    tab.send("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('.bar, #budgets, nav, [data-copy]')]"
    assert tab.evaluate(f"{hidden}.every((one) => one.offsetParent === null)")
    figure = "getComputedStyle(document.querySelector('figure')).breakInside"
    assert tab.evaluate(figure) == "avoid"
    assert tab.pdf(pictures / "report.pdf").stat().st_size > 50_000


def test_contents_lead_to_every_section(tmp_path: Path, chromium: Chromium) -> None:
    tab = opened(chromium, classic(), tmp_path)
    titles = tab.evaluate("[...document.querySelectorAll('nav a')].map((one) => one.textContent)")
    assert titles == tab.evaluate(
        "[...document.querySelectorAll('h2')].map((one) => one.textContent)"
    )
    tab.evaluate("document.querySelector('nav a:last-child').click()")
    assert tab.evaluate("location.hash") == "#trials"
