"""The picture of the first plot shows what Plotly draws in its place, without a script."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search import Front
from protege.search.report import style, views
from protege.search.report.page import write_report
from protege.search.report.scatter import KINDS, Scatter
from protege.search.report.static_plot import Axis, picture
from studies.benchmarks.chromium import Chromium
from studies.benchmarks.report import HELD, large_front
from tests.search.report.drawn import LATENCY, RETENTION, classic, drawn, objective

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))


def spec_of(front: Front) -> dict[str, Any]:
    x, y = front.objectives.records
    return Scatter(views.points(front, x, y), x, y, teacher_ms=40.0).drawn(400)


def parsed(front: Front, chosen: tuple[float, float] | None = None) -> ET.Element:
    return ET.fromstring(str(picture(spec_of(front), chosen)))


def percent(text: str | None) -> float:
    assert text is not None
    assert text.endswith("%")
    return float(text[:-1])


def placed(root: ET.Element) -> dict[str, list[tuple[float, float]]]:
    """The places of the marks by the name of their kind."""
    names = {}
    for entry in root.iter("span"):
        use = next(entry.iter("use"))
        names[use.get("href")] = "".join(entry.itertext())
    found: dict[str, list[tuple[float, float]]] = {}
    for use in root.iter("use"):
        if use.get("x") is not None:
            place = percent(use.get("x")), percent(use.get("y"))
            found.setdefault(names[use.get("href")], []).append(place)
    return found


def texts(root: ET.Element) -> Iterator[str]:
    return (text.text or "" for text in root.iter("text"))


def test_every_trial_is_marked_in_its_place() -> None:
    found = placed(parsed(classic()))
    assert {name: len(of) for name, of in found.items()} == {
        style.FRONT: 3,
        style.TEACHER: 1,
        style.NAIVE: 1,
    }
    (teacher,), (naive,) = found[style.TEACHER], found[style.NAIVE]
    students = found[style.FRONT]
    assert all(0 < place < 100 for of in found.values() for each in of for place in each)
    assert teacher[0] == max(place[0] for place in [teacher, naive, *students])  # the slowest
    assert teacher[1] == min(place[1] for place in [teacher, naive, *students])  # the best, on top
    by_latency = dict(zip((20.0, 30.0, 8.0), students, strict=True))
    scale = (by_latency[30.0][0] - by_latency[8.0][0]) / 22
    assert by_latency[20.0][0] == pytest.approx(by_latency[8.0][0] + 12 * scale, abs=0.02)


def test_the_chosen_student_has_a_ring() -> None:
    found = placed(parsed(classic(), (20.0, 0.8)))
    (ring,) = found["Chosen"]
    assert ring in found[style.FRONT]


def test_the_border_is_a_step_line_and_limits_are_dashed() -> None:
    root = parsed(classic(limit_ms=35.0))
    border = [one for one in root.iter("line") if one.get("stroke-width") == "2"]
    assert len(border) == 4  # from 8 ms over 20 to 30: each step turns one corner
    for one in border:
        assert one.get("x1") == one.get("x2") or one.get("y1") == one.get("y2")
    assert "limit 35 ms" in texts(root)
    assert [one for one in root.iter("line") if one.get("stroke-dasharray") == "9 6"]


def test_axes_have_titles_and_round_ticks() -> None:
    shown = [*texts(parsed(classic()))]
    assert "Latency (ms), less is better" in shown
    assert "Retention, more is better" in shown
    assert {"10", "20", "30", "40"} <= {*shown}


@given(st.lists(numbers, max_size=5))
def test_values_and_ticks_are_on_the_axis(values: list[float]) -> None:
    axis = Axis.around(values)
    ticks = axis.ticks()
    assert all(0 < axis.share(value) < 1 for value in values)
    assert all(-1e-9 <= axis.share(value) <= 1 + 1e-9 for value, _ in ticks)
    assert 2 <= len(ticks) <= 9
    assert len({text for _, text in ticks}) == len(ticks)


def test_colours_are_those_of_the_page() -> None:
    shown = str(picture(spec_of(classic())))
    assert not re.search('(fill|stroke)="#', shown)
    assert "var(--accent)" in shown


def test_each_kind_of_marker_has_an_outline() -> None:
    markers = [*KINDS.values(), style.RING, style.STAR, style.AGAIN, style.RIVAL, style.CHOSEN]
    spec = spec_of(classic())
    spec["data"] = [
        {"x": [at], "y": [at], "mode": "markers", "name": f"{at}", "marker": marker}
        for at, marker in enumerate(markers)
    ]
    root = ET.fromstring(str(picture(spec)))
    outlines = [path.get("d") for path in root.iter("path")]
    assert len(outlines) == len(markers)
    assert all(outlines)


def test_names_with_markup_are_text() -> None:
    odd = objective("<i>a&b</i>", "maximize")
    front = drawn([LATENCY, odd], [(40.0, 1.0), (10.0, 0.3), (20.0, 0.8)])
    assert "<i>a&b</i>, more is better" in texts(parsed(front))


def test_a_front_of_one_trial_has_a_picture() -> None:
    assert placed(parsed(drawn([LATENCY, RETENTION], [(40.0, 1.0)])))


def test_plotly_draws_in_the_place_of_the_picture(tmp_path: Path, chromium: Chromium) -> None:
    page = write_report(large_front(tmp_path, 40), tmp_path / "index.html")
    tab = chromium.tab()
    tab.send("Page.addScriptToEvaluateOnNewDocument", source=HELD)
    tab.open(page)
    tab.wait("window.go")
    height = "document.documentElement.scrollHeight"
    top = "document.getElementById('students').getBoundingClientRect().top"
    before = tab.evaluate(f"[{height}, {top}]")
    box = "document.querySelector('.static > svg').getBoundingClientRect()"
    assert tab.evaluate(f"{box}.height") > 300
    assert not tab.evaluate("Boolean(window.Plotly)")
    tab.evaluate("window.requestAnimationFrame = frame; go()")
    tab.wait("document.querySelector('#pair-0 .points path') && !document.querySelector('.static')")
    assert tab.evaluate(f"[{height}, {top}]") == before
    assert tab.console == []
