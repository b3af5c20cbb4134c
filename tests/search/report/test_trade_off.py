"""The plot of the front: what is on it, what it says, and what the page stores of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from protege.objectives import Measurement
from protege.search import Front, State
from protege.search.analysis.confirmation import Confirmation
from protege.search.records.objectives import PARAMETERS, SPEEDUP
from protege.search.report import style, views
from protege.search.report.captions import plot_notes
from protege.search.report.scatter import SPEEDS, Scatter
from protege.search.report.trade_off import axes, front_figure, trade_off
from tests.search.report.drawn import LATENCY, RETENTION, classic, drawn, objective, student


def with_confirmed(folder: Path, **values: float) -> Front:
    """A front whose trial 2 was measured again."""
    Confirmation(2, "", values).store(folder)
    return classic(folder=folder)


def first(front: Front) -> go.Figure:
    """The plot over the first two objectives."""
    x, y = front.objectives.records
    return front_figure(front, x, y)


def named(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def test_axes_are_the_objectives_the_speedup_and_the_parameters() -> None:
    front = classic()
    assert axes(front) == [*front.objectives.records, SPEEDUP]
    counted = replace(front, trials=tuple(replace(t, parameters=10**7) for t in front.trials))
    assert axes(counted)[-1] is PARAMETERS
    assert views.place(counted.trials[2], PARAMETERS) == (10.0, 0.0)
    own = drawn([objective("parameters_m"), RETENTION], [(22.0, 1.0), (10.0, 0.5), (9.0, 0.6)])
    assert [one.name for one in axes(own)] == ["parameters_m", "retention"]


def test_a_single_objective_is_drawn_over_trials() -> None:
    front = drawn([RETENTION], [(0.2,), (0.5,), (0.4,)], about={})
    assert axes(front) == [style.TRIAL, RETENTION]
    assert trade_off(front).plot.title == "Retention by trial"


def test_the_error_of_a_speedup_is_relative_that_of_the_latency() -> None:
    assert views.place(classic().trials[2], SPEEDUP) == pytest.approx((2.0, 0.02))


def test_teacher_and_naive_half_are_no_students() -> None:
    front = classic()
    latency, retention = front.objectives.records
    shown = named(front_figure(front, latency, retention))
    assert list(shown[style.FRONT].x) == [20, 30, 8]
    assert list(shown[style.TEACHER].x) == [40]
    assert list(shown[style.NAIVE].x) == [10]
    assert len({one.marker.symbol for one in shown.values()}) >= 3
    assert trade_off(front).plot.says == (
        "Scatter plot of 5 trials, 3 of them students on the front. The front runs from Retention "
        "0.500 at Latency (ms) 8.00 to Retention 0.900 at Latency (ms) 30.0."
    )


def test_students_dominated_within_noise_and_ties_off_the_front_are_marked() -> None:
    wide = {"latency_ms": Measurement(20.05, 0.5), "retention": Measurement(0.79, 0.02)}
    shaded = {"latency_ms": Measurement(19.95, 0.5), "retention": Measurement(0.7, 0.001)}
    front = classic(student(5, {}, measurements=wide), student(6, {}, measurements=shaded))
    kinds = views.points(front, *front.objectives.records).set_index("trial")["kind"]
    assert kinds[5] == style.TIED
    assert kinds[6] == style.SHADED
    notes = " ".join(plot_notes(front))
    assert "tied with a student on the front: t5 with t2" in notes
    assert "A hollow blue point" in notes


def test_what_was_stopped_or_is_over_a_limit_is_faint() -> None:
    stopped = student(5, {"latency_ms": 25.0, "retention": 0.1}, state=State.STOPPED)
    front = classic(stopped, limit_ms=35.0)
    over = student(6, {"latency_ms": 36.0, "retention": 0.95})
    front = replace(front, trials=(*front.trials, over))
    shown = named(first(front))
    for kind in (style.STOPPED, style.OVER):
        assert shown[kind].marker.opacity < 1
        assert shown[kind].error_x.array is None


def test_lines_of_equal_speed_keep_apart_and_off_the_limit() -> None:
    front = classic(limit_ms=21.0)
    figure = first(front)
    dotted = [line.x0 for line in figure.layout.shapes if line.line.dash == "dot"]
    assert dotted == [pytest.approx(40 / speed) for speed in (1.25, 1.5, 3, 4)]
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["limit 21 ms", "1.25×", "1.5×", "3×", "4×"]  # noqa: RUF001
    assert sorted(SPEEDS) == [*SPEEDS]


def test_no_speeds_are_drawn_over_another_axis() -> None:
    front = classic()
    latency, retention = front.objectives.records
    assert not front_figure(front, retention, latency).layout.shapes
    points = views.points(front, latency, retention)
    assert not Scatter(points, latency, retention).drawn(400)["layout"]["shapes"]


def test_confirmed_figures_are_joined_to_their_student(tmp_path: Path) -> None:
    front = with_confirmed(tmp_path, latency_ms=21.0, retention=0.85, unseen_retention=0.78)
    latency, retention = front.objectives.records
    frame = views.confirmed(front, latency, retention)
    assert frame[["trial", "x", "y", "from_x", "from_y"]].to_numpy().tolist() == [
        [2, 21.0, 0.78, 20.0, 0.8]
    ]
    figure = front_figure(front, latency, retention)
    again = named(figure)[style.CONFIRMED]
    assert again.customdata[0] == (
        "<b>3x24-h6-f40-t2, confirmed</b><br>Latency (ms): 21.0 (search: 20.0)<br>"
        "Retention: 0.780 (search: 0.800)"
    )
    joined = next(trace for trace in figure.data if list(trace.x) == [20.0, 21.0, None])
    assert list(joined.y) == [0.8, 0.78, None]
    assert "Triangles" in " ".join(plot_notes(front))


def test_a_confirmation_without_a_value_on_an_axis_is_not_drawn(tmp_path: Path) -> None:
    front = with_confirmed(tmp_path, latency_ms=21.0)
    assert views.confirmed(front, *front.objectives.records).empty
    assert style.CONFIRMED not in named(first(front))


def test_a_hover_is_short() -> None:
    front = classic()
    texts = trade_off(front).data["hovers"]
    assert texts[2] == (
        "<b>3x24-h6-f40-t2</b><br>Latency (ms): 20.0 ± 0.20<br>Retention: 0.800 ± 0.0080<br>"
        "2.00 times faster"
    )
    assert texts[0].startswith("<b>1x24-h6-f40-t0 (teacher)</b>")


def test_a_hover_says_what_a_chooser_must_know() -> None:
    details: dict[str, float | str] = {"speedup": 2.0, "grade": "C", "error_floor": "1.5%"}
    found = {"latency_ms": Measurement(20.0, 0.3, (), details), "retention": Measurement(0.8)}
    one = student(5, {}, measurements=found, parameters=12_000_000, state=State.STOPPED)
    assert trade_off(classic(one)).data["hovers"][5] == (
        "<b>2x24-h6-f40-t5</b><br>Latency (ms): 20.0 ± 0.30 (floor), grade C<br>Retention: 0.800"
        "<br>2.00 times faster · 12.0 M<br>stopped"
    )


def test_a_name_is_text_in_a_hover_even_if_it_looks_like_markup() -> None:
    odd = objective("<i>a&b</i>", "maximize")
    front = drawn([LATENCY, odd], [(40.0, 1.0), (10.0, 0.3), (20.0, 0.8)])
    assert "&lt;i&gt;a&amp;b&lt;/i&gt;: 0.800" in trade_off(front).data["hovers"][2]


def test_each_value_and_text_is_stored_once() -> None:
    front = classic()
    found = trade_off(front)
    assert found.names == ["Latency (ms)", "Retention", "Times faster than the teacher"]
    assert len(found.data["plots"]) == 5
    assert found.data["axes"][0]["values"] == [40.0, 10.0, 20.0, 30.0, 8.0]
    assert found.data["axes"][2]["values"] == [1.0, 4.0, 2.0, pytest.approx(4 / 3, rel=1e-5), 5.0]
    assert len(found.data["hovers"]) == len(front.trials)
    assert "customdata" in found.plot.spec
    assert "20.0 ±" not in found.plot.spec


def test_the_note_on_error_bars_names_floors_and_paired_scores() -> None:
    def found(ms: float, kept: float, **details: str) -> dict[str, Measurement]:
        examples = (kept, kept + 0.1, kept - 0.1)
        return {
            "latency_ms": Measurement(ms, ms * 0.015, (), details),
            "retention": Measurement(kept, 0.001, (), {}, examples),
        }

    floor = {"error_floor": "1.5%"}
    rows = [
        student(0, {}, measurements=found(40.0, 1.0, **floor)),
        student(2, {}, measurements=found(20.0, 0.8)),
        student(3, {}, measurements=found(10.0, 0.5, **floor)),
    ]
    front = replace(classic(), trials=tuple(rows))
    (bars,) = [note for note in plot_notes(front) if note.startswith("Bars")]
    assert "at least 1.5%, and that floor holds for all but t2." in bars
    assert "Retention: of the mean over 3 held-out examples" in bars


def test_without_errors_there_is_no_note_on_bars() -> None:
    exact = [
        student(number, {}, measurements={"parameters_m": Measurement(22.0 - number)})
        for number in range(3)
    ]
    front = drawn([objective("parameters_m")], [], *exact)
    assert not [note for note in plot_notes(front) if note.startswith("Bars")]
