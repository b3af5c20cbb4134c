"""A front draws its figures, and says what a study lacks."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import plotly.graph_objects as go
import pytest

from protege.search import Front
from protege.search.running.racing import Race
from protege.spaces import BadInput
from tests.search.report.drawn import LATENCY, classic, drawn
from tests.search.report.sections.made import made
from tests.search.toys import toy


@pytest.fixture(scope="module")
def ran() -> Iterator[Front]:
    """A study of all its nine students, some of which were stopped."""
    with TemporaryDirectory() as folder:
        yield toy(Path(folder), race=Race(eta=1.5, min_records=4)).run(trials=9)


@pytest.mark.parametrize(
    "name", ["plot", "plot_parallel", "plot_sizes", "plot_convergence", "plot_races", "plot_time"]
)
def test_a_study_that_ran_is_drawn(ran: Front, name: str) -> None:
    figure = getattr(ran, name)()
    assert isinstance(figure, go.Figure)
    assert figure.data


def test_any_two_objectives_are_plotted() -> None:
    front = classic()
    assert front.plot().layout.xaxis.title.text.startswith("Latency (ms)")
    turned = front.plot(x="retention", y="latency_ms")
    assert turned.layout.xaxis.title.text.startswith("Retention")
    assert turned.layout.yaxis.title.text.startswith("Latency (ms)")


def test_importance_has_a_panel_for_each_objective() -> None:
    figure = made().plot_importance()
    assert [note.text for note in figure.layout.annotations] == ["Latency (ms)", "Retention"]
    assert [set(bars.y) for bars in figure.data] == [{"layers", "hidden size"}] * 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("plot_importance", "needs 8 finished students of different sizes; this study has 1"),
        ("plot_parallel", "no two finished students"),
        ("plot_sizes", "same sizes"),
        ("plot_races", "No student of this study was scored at rungs"),
        ("plot_latency", "in samples of single calls"),
        ("plot_latency_model", "needs 15 measured students"),
        ("plot_layers", "did not record its teacher"),
        ("plot_convergence", "needs the teacher's own trial"),
        ("plot_time", "has not recorded its time"),
    ],
)
def test_a_study_that_lacks_the_data_says_so(name: str, why: str) -> None:
    front = drawn([LATENCY], [(40.0,)], about={})
    with pytest.raises(BadInput, match=why):
        getattr(front, name)()


def test_an_unknown_objective_is_named_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=re.escape("'speed'; this study has latency_ms, retention")):
        classic().plot_heat_map("speed")
