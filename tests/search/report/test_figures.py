import json
from itertools import combinations
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search import State
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.wording import decimals, duration, significant, titled
from protege.search.report import figures, style, views
from protege.search.report.scatter import Scatter
from protege.search.report.sections import accounting, convergence, sizes
from tests.search.report.drawn import LATENCY, RETENTION, classic, drawn, objective, student
from tests.search.toys import OWN

MEMORY = objective("memory_mb")
AGREEMENT = objective("agreement", "maximize")

values = st.floats(0.01, 100).map(lambda value: round(value, 2))
studies = st.lists(st.tuples(values, values), min_size=1, max_size=12)


def traces(figure: go.Figure) -> dict[str, Any]:
    """Named traces of the figure as the page reads it."""
    return {
        trace["name"]: trace for trace in json.loads(figure.to_json())["data"] if "name" in trace
    }


def scatter(
    frame: pd.DataFrame, x: ObjectiveRecord = LATENCY, y: ObjectiveRecord = RETENTION
) -> go.Figure:
    return go.Figure(Scatter(frame, x, y).drawn(400))


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ([LATENCY, RETENTION], [(LATENCY, RETENTION)]),
        ([RETENTION, LATENCY], [(LATENCY, RETENTION)]),
        ([LATENCY, MEMORY, RETENTION], [(LATENCY, RETENTION), (MEMORY, RETENTION)]),
        ([LATENCY, RETENTION, AGREEMENT], [(LATENCY, RETENTION), (LATENCY, AGREEMENT)]),
        ([LATENCY, MEMORY], [(LATENCY, MEMORY)]),
        ([RETENTION, AGREEMENT], [(RETENTION, AGREEMENT)]),
        ([RETENTION], [(style.TRIAL, RETENTION)]),
        ([LATENCY], [(style.TRIAL, LATENCY)]),
    ],
)
def test_costs_lie_across_and_qualities_up(
    objectives: list[ObjectiveRecord], expected: list[tuple[ObjectiveRecord, ObjectiveRecord]]
) -> None:
    assert views.pairs(objectives) == expected


def test_two_costs_and_two_qualities_make_four_plots() -> None:
    assert len(views.pairs([LATENCY, MEMORY, RETENTION, AGREEMENT])) == 4


def test_every_trial_with_both_values_is_a_point_of_its_kind() -> None:
    both = {"latency_ms": 50.0, "retention": 0.99}
    screened = student(5, both, state=State.SCREENED)
    untrained = student(6, {"latency_ms": 50.0}, state=State.SCREENED)
    failed = student(7, {}, state=State.FAILED)
    frame = views.points(classic(screened, untrained, failed), LATENCY, RETENTION)
    assert frame["trial"].tolist() == [0, 1, 2, 3, 4, 5]
    assert frame["kind"].tolist() == [
        style.FRONT,
        style.DOMINATED,
        *[style.FRONT] * 3,
        style.OVER,
    ]
    numbers = frame[["x", "x_spread", "y", "y_spread"]].to_numpy()
    assert numbers[2].tolist() == [20, 0.2, 0.8, 0.008]


def test_a_complete_trial_beyond_a_limit_is_not_called_dominated() -> None:
    frame = views.points(classic(limit_ms=25.0), LATENCY, RETENTION)
    over = frame[frame["kind"] == style.OVER]
    assert over["trial"].tolist() == [0, 3]
    assert not over["step"].any()


def test_teacher_and_naive_half_are_marked() -> None:
    frame = views.points(classic(), LATENCY, RETENTION).set_index("trial")
    assert frame["role"].to_dict() == {0: style.TEACHER, 1: style.NAIVE, 2: "", 3: "", 4: ""}


def test_a_study_that_recorded_no_teacher_marks_none() -> None:
    frame = views.points(classic(about={}), LATENCY, RETENTION)
    assert (frame["role"] == "").all()


@given(studies)
def test_with_two_objectives_the_steps_are_the_front(rows: list[tuple[float, float]]) -> None:
    frame = views.points(drawn([LATENCY, RETENTION], rows), LATENCY, RETENTION)
    assert (frame["step"] == frame["kind"].isin([style.FRONT, style.SHADED])).all()


@given(studies, st.lists(values, min_size=12, max_size=12))
def test_with_more_objectives_the_steps_are_the_best_of_the_pair(
    rows: list[tuple[float, float]], third: list[float]
) -> None:
    three = [(*row, extra) for row, extra in zip(rows, third, strict=False)]
    frame = views.points(drawn([LATENCY, RETENTION, MEMORY], three), LATENCY, RETENTION)
    two = views.points(drawn([LATENCY, RETENTION], rows), LATENCY, RETENTION)
    steps = frame.loc[frame["step"], ["x", "y"]].to_numpy().tolist()
    assert steps == two.loc[two["step"], ["x", "y"]].to_numpy().tolist()


def test_the_steps_of_a_single_objective_are_the_best_so_far() -> None:
    frame = views.points(
        drawn([RETENTION], [(0.2,), (0.5,), (0.4,), (0.7,)]), style.TRIAL, RETENTION
    )
    assert frame.loc[frame["step"], "trial"].tolist() == [0, 1, 3]
    assert frame.loc[frame["kind"] == style.FRONT, "trial"].tolist() == [3]


@given(studies)
def test_labels_on_the_front_keep_apart(rows: list[tuple[float, float]]) -> None:
    frame = views.points(drawn([LATENCY, RETENTION], rows), LATENCY, RETENTION)
    places = frame[["x", "y"]]
    shares = (places - places.min()) / (places.max() - places.min()).replace(0, 1)
    named = shares[frame["labelled"]].to_numpy()
    assert set(frame.loc[frame["labelled"], "kind"]) <= {style.FRONT, style.SHADED}
    assert (frame.loc[frame["labelled"], "role"] == "").all()
    for one, other in combinations(named, 2):
        assert (abs(one - other) > views.APART).any()


@given(studies)
def test_progress_is_the_hypervolume_of_every_prefix(rows: list[tuple[float, float]]) -> None:
    front = drawn([LATENCY, RETENTION], [(50.0, 50.0), *rows])
    assert front.teacher is not None
    prefixes = [front.trials[: count + 1] for count in range(len(front.trials))]
    expected = [front.objectives.hypervolume(prefix, front.teacher) for prefix in prefixes]
    assert convergence.progress(front)["hypervolume"].tolist() == pytest.approx(expected)


def test_progress_is_empty_without_a_teacher() -> None:
    assert convergence.progress(classic(about={})).empty


def test_sizes_that_never_differ_are_not_shown() -> None:
    frame = sizes.sizes(classic(), LATENCY)
    assert list(frame.columns) == ["trial", "x", "on_front", "num_hidden_layers"]
    assert frame["trial"].tolist() == [4, 1, 2, 3, 0]
    assert frame["on_front"].tolist() == [True, False, True, True, True]
    assert frame["num_hidden_layers"].tolist() == [1, 2, 3, 4, 1]


def test_heads_that_follow_the_hidden_size_are_not_shown() -> None:
    half = {"hidden_size": 12, "num_attention_heads": 3, "num_key_value_heads": 3}
    one = student(5, {"latency_ms": 5.0, "retention": 0.2}, architecture=OWN.fields() | half)
    frame = sizes.sizes(classic(one), LATENCY)
    assert list(frame.columns[3:]) == ["num_hidden_layers", "hidden_size"]


def test_heads_that_are_a_choice_of_their_own_are_shown() -> None:
    fewer = {"num_attention_heads": 3, "num_key_value_heads": 3}
    one = student(5, {"latency_ms": 5.0, "retention": 0.2}, architecture=OWN.fields() | fewer)
    frame = sizes.sizes(classic(one), LATENCY)
    assert list(frame.columns[3:]) == ["num_hidden_layers", "num_attention_heads"]


def test_times_are_shares_with_the_longest_first() -> None:
    frame = accounting.times({"latency": 1.0, "distil": 3.0})
    assert frame.to_dict("list") == {
        "phase": ["distil", "latency"],
        "seconds": [3.0, 1.0],
        "share": [0.75, 0.25],
    }


def test_a_scatter_draws_each_kind_and_names_only_what_is_there() -> None:
    beaten = student(5, {"latency_ms": 35.0, "retention": 0.5})
    frame = views.points(classic(beaten), LATENCY, RETENTION)
    shown = traces(scatter(frame))
    assert list(shown) == [style.DOMINATED, style.FRONT, style.NAIVE, style.TEACHER]
    assert shown[style.FRONT]["x"] == [20, 30, 8]
    assert shown[style.FRONT]["error_y"]["array"] == pytest.approx([0.008, 0.009, 0.005])
    assert "error_y" not in shown[style.DOMINATED]
    assert shown[style.TEACHER]["marker"]["symbol"] == "star"


@pytest.mark.parametrize(
    ("x", "y", "shape", "corner"),
    [
        (LATENCY, RETENTION, "hv", "top left"),
        (LATENCY, MEMORY, "hv", "bottom left"),
        (AGREEMENT, RETENTION, "vh", "top right"),
    ],
)
def test_steps_stay_within_what_was_reached_and_labels_outside(
    x: ObjectiveRecord, y: ObjectiveRecord, shape: str, corner: str
) -> None:
    figure = scatter(views.points(drawn([x, y], [(1.0, 2.0), (2.0, 3.0)]), x, y), x, y)
    border, numbers = figure.data[0], figure.data[-1]
    assert border.line.shape == shape
    assert numbers.textposition == corner


def test_axis_titles_carry_units_and_say_which_way_is_better() -> None:
    layout = scatter(views.points(classic(), LATENCY, RETENTION)).layout
    assert layout.xaxis.title.text == "Latency (ms), less is better"
    assert layout.yaxis.title.text == "Retention, more is better"


def test_limits_are_lines_with_their_value() -> None:
    x, y = objective("latency_ms", limit=25.0), objective("retention", "maximize", limit=0.4)
    figure = scatter(views.points(classic(limit_ms=25.0), x, y), x, y)
    assert [(line.x0, line.y0) for line in figure.layout.shapes] == [(25.0, 0), (0, 0.4)]
    assert [note.text for note in figure.layout.annotations] == ["limit 25 ms", "limit 0.4"]


def test_sizes_are_drawn_a_panel_each_and_policies_as_text() -> None:
    own = OWN.fields() | {"layer_policy": "<b>ends</b>"}
    one = student(5, {"latency_ms": 5.0, "retention": 0.2}, architecture=own)
    figure = figures.composition(sizes.sizes(classic(one), LATENCY), LATENCY)
    assert [title.text for title in figure.layout.annotations] == ["layers", "layer policy"]
    policies = [value for trace in figure.data if trace.yaxis == "y2" for value in trace.y]
    assert set(policies) == {"uniform", "&lt;b&gt;ends&lt;/b&gt;"}


def test_bars_say_seconds_and_share() -> None:
    figure = figures.bars(accounting.times({"distil": 3996.0, "store": 4.0}))
    assert list(figure.data[0].text) == ["1 h 7 min (100%)", "4.0 s (&lt;1%)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.32081, "0.321"),
        (6.9555, "6.96"),
        (42.797, "42.8"),
        (12_345.6, "12,346"),
        (-0.5, "-0.500"),
        (2.06e-17, "2.06e-17"),
        (float("nan"), "-"),
    ],
)
def test_a_number_is_read_to_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_column_has_decimals_for_its_least_value_unless_its_largest_gets_long() -> None:
    assert decimals([6.96, 42.8]) == 2
    assert decimals([0.321, 1.0]) == 3
    assert decimals([0.003, 1.0]) == 3
    assert decimals([5.0, 1000.0]) == 0
    assert decimals([]) == decimals([0.0, float("nan")]) == 0


def test_an_objective_is_titled_with_its_unit_once() -> None:
    assert titled(LATENCY) == "Latency (ms)"
    assert titled(objective("peak_memory_mb")) == "Peak memory (MB)"
    assert titled(ObjectiveRecord("parameters_m", "M", "minimize")) == "Parameters (M)"
    assert titled(ObjectiveRecord("energy", "J", "minimize")) == "Energy (J)"
    assert titled(RETENTION) == "Retention"


def test_a_duration_is_read_in_its_two_largest_units() -> None:
    spans = [0.0, 59.94, 59.96, 3599.4, 3599.6, 90_061.0]
    assert [duration(span) for span in spans] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "25 h 1 min",
    ]
