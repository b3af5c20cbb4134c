"""What depth and width cost: the table of cuts, the importance of sizes, and the maps."""

import pandas as pd
import pytest

from protege.search.report.parts import NotShown, Plot
from protege.search.report.sections import cuts, heat_maps, importance, parallel
from protege.search.report.sections.section import Captioned
from tests.search.report.drawn import LATENCY, RETENTION
from tests.search.report.sections.made import GRID, latency_ms, made, retention


def test_a_student_at_a_cut_is_measured_and_others_are_interpolated() -> None:
    frame = cuts.cuts(made(), LATENCY)
    assert frame["cut"].tolist() == [cut.title for cut in cuts.CUTS]
    half, narrow, both = (dict(row) for row in frame.to_dict("records"))
    assert (half["trial"], half["source"]) == (15, "measured, t15")
    assert half["sizes"] == {"num_hidden_layers": 2, "hidden_size": 24}
    assert half["latency_ms"] == latency_ms(2, 24) == 12
    assert half["latency_ms_error"] == 0.1
    assert half["speedup"] == 2
    # no student has four layers of 12, and three of 16 are less than two hundredths away
    assert narrow["sizes"] == {"num_hidden_layers": 4, "hidden_size": 12}
    assert narrow["source"] == "interpolated"
    assert narrow["retention"] == pytest.approx(retention(4, 12), rel=0.03)
    assert narrow["speedup"] == pytest.approx(2, rel=0.1)
    assert 0 < narrow["retention_error"] < 0.05
    assert both["trial"] == 17
    assert both["retention"] == retention(3, 16)


def test_nothing_is_extrapolated_beyond_the_sizes_that_were_tried() -> None:
    wide = [(layers, hidden) for layers in (1, 2, 3) for hidden in (16, 20, 24)]
    narrow = cuts.cuts(made(wide), LATENCY).to_dict("records")[1]
    assert narrow["source"] == "not tried: hidden size 16 to 24 were finished"
    assert pd.isna(narrow["latency_ms"])
    few = cuts.cuts(made([(1, 8), (3, 24)]), LATENCY).to_dict("records")[0]
    assert few["source"] == "not tried, and 3 finished models are too few to interpolate"


def test_a_study_of_one_axis_has_no_table_of_cuts_and_says_so() -> None:
    front = made([(1, 24), (2, 24), (3, 24)])
    with pytest.raises(NotShown, match="several depths and several widths"):
        cuts.cuts(front, LATENCY)
    assert cuts.depth_or_width(front, LATENCY).blocks == [
        "This study did not finish students of several depths and several widths."
    ]


def test_the_table_has_the_rule_of_thumb_beside_the_study() -> None:
    _, captioned = cuts.depth_or_width(made(), LATENCY).blocks
    assert isinstance(captioned, Captioned)
    rows = [[cell.text for cell in row] for row in captioned.table.rows]
    assert rows[0] == [
        "50% of the layers",
        "layers 2",
        "12.0 (50%)",
        "0.758 (76%)",
        "2.00",
        "measured, t15",
        "96-98% kept, 60-70% faster",
    ]


def test_importance_finds_the_size_that_decides() -> None:
    frame = importance.importance(made())
    shares = frame.pivot_table(index="objective", columns="size", values="importance")
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    # the quality depends on depth twice as much as on width
    quality = shares.loc["retention"]
    assert quality["num_hidden_layers"] > quality["hidden_size"] > 0
    first = frame.groupby("objective", sort=False).first()["importance"]
    assert (first == shares.max(axis=1)[first.index]).all()


def test_importance_needs_finished_students_of_different_sizes() -> None:
    few = made(GRID[:3])
    with pytest.raises(NotShown, match=r"needs 8 finished students .* this study has 3"):
        importance.importance(few)
    assert "has 3" in str(importance.importances_shown(few).blocks[0])


def test_a_map_has_every_depth_and_width_of_a_student_and_says_what_was_tried() -> None:
    frame = heat_maps.heat_map(made(), RETENTION)
    places = list(zip(frame["depth"], frame["width"], strict=True))
    assert places == [(layers, hidden) for layers in (1, 2, 3, 4) for hidden in (8, 16, 24)]
    known = frame.set_index(["depth", "width"])
    assert known.loc[(2, 16), "tried"] == "t14"
    assert known.loc[(4, 16), "tried"] == ""
    for layers, hidden in places:
        assert known.loc[(layers, hidden), "value"] == pytest.approx(
            retention(layers, hidden), rel=0.02
        )


def test_a_map_marks_what_was_tried_and_names_its_best_cell() -> None:
    front = made()
    figure = front.plot_heat_map("retention")
    (drawn,) = figure.data
    assert drawn.x == ("8", "16", "24")
    assert drawn.y == ("1", "2", "3", "4")
    assert [text.startswith(heat_maps.DOT) for text in drawn.text[1]] == [True] * 3
    assert [text.startswith(heat_maps.DOT) for text in drawn.text[3]] == [False] * 3
    plots = [one for one in heat_maps.heat_maps(front).blocks if isinstance(one, Plot)]
    assert [one.title for one in plots] == ["Latency (ms)", "Retention"]
    assert "of layers and hidden size, 9 of them tried" in plots[0].says
    assert "is at 4 and 24" in plots[1].says


def test_parallel_coordinates_hold_sizes_and_objectives_of_finished_students() -> None:
    front = made(GRID[:4])
    frame = parallel.parallel(front)
    assert list(frame.columns) == [
        "trial",
        "on_front",
        "num_hidden_layers",
        "hidden_size",
        "latency_ms",
        "retention",
    ]
    assert frame.to_numpy()[1].tolist() == [11, False, 1, 16, 4.0, retention(1, 16)]
    figure = front.plot_parallel()
    gaps = {trace.name: trace.x.count(None) for trace in figure.data}
    on_front = int(frame["on_front"].sum())
    assert gaps == {"Not kept": 0, "Other finished students": 4 - on_front, "Front": on_front}
    compared = parallel.compared(front)
    assert compared is not None
    assert compared.data["values"][1] == [1, 16, 4.0, retention(1, 16)]
    assert parallel.compared(made(GRID[:1])) is None
