"""The heat-map shows the table, layer by layer, and tells it to those who cannot see it."""

import csv
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from protege.search.records.heads import HeadScores
from protege.search.report import heads, style
from protege.search.report import page as report
from tests.search.report.drawn import ABOUT, classic
from tests.search.report.pages import Browser, Page, contrast

GROUPED = HeadScores("ablation", 2, {"decoder.heads": [[1.0, 4.0, 2.0, 0.0], [3.0, 8.0, 1.0, 2.0]]})
PAIRED = HeadScores(
    "gradient",
    2,
    {
        "encoder.heads": [[0.5, 0.25]],
        "decoder.heads": [[1.0, 2.0], [3.0, 4.0]],
        "decoder.cross_heads": [[0.0, 0.0], [0.0, 0.0]],
    },
)


def test_a_panel_holds_every_head_with_its_share_and_its_place() -> None:
    (panel,) = heads.panels(GROUPED)
    assert panel.title == "Decoder, self-attention"
    shown = panel.heads
    assert shown["importance"].tolist() == [1, 4, 2, 0, 3, 8, 1, 2]
    assert shown["share"].tolist() == [0.125, 0.5, 0.25, 0, 0.375, 1, 0.125, 0.25]
    assert shown["colour"].tolist() == (shown["share"] ** 0.5).tolist()
    assert shown["kv_group"].tolist() == [0, 0, 1, 1] * 2
    assert shown["x"].tolist() == [0, 1, 2.25, 3.25] * 2
    assert shown["hover"][1] == (
        "<b>Layer 0, head 1</b>, KV group 0<br>4.00, 50.0% of the most important in its panel"
    )


def test_shares_are_of_each_panel_and_nothing_is_a_share_of_nothing() -> None:
    titles = ["Encoder, self-attention", "Decoder, self-attention", "Decoder, cross-attention"]
    found = heads.panels(PAIRED)
    assert [panel.title for panel in found] == titles
    assert [panel.heads["share"].max() for panel in found] == [1, 1, 0]
    assert all(panel.heads["colour"].equals(panel.heads["share"]) for panel in found)
    assert found[0].heads["x"].tolist() == [0, 1]
    assert "KV group" not in found[0].heads["hover"][0]


def test_the_least_important_come_first() -> None:
    found = heads.least(GROUPED, 3)
    assert found["importance"].tolist() == [0, 1, 1]
    assert found[["layer", "head"]].to_numpy().tolist() == [[0, 3], [0, 0], [1, 2]]


def test_the_figure_has_layers_from_the_top_and_a_gap_between_groups() -> None:
    drawn = heads.figure(heads.panels(GROUPED))
    (grid,) = drawn.data
    assert grid.x == (-0.5, 0.5, 1.5, 1.75, 2.75, 3.75)
    shares = [[z and z**2 for z in row] for row in grid.z]
    assert shares[0] == pytest.approx([0.125, 0.5, None, 0.25, 0])
    assert shares[1] == pytest.approx([0.375, 1, None, 0.125, 0.25])
    assert drawn.layout.yaxis.autorange == "reversed"
    assert drawn.layout.xaxis.ticktext == (0, 1, 2, 3)
    assert drawn.layout.annotations[1].text == "Head, in groups of 2 that share keys and values"


def test_a_figure_has_a_panel_for_each_site() -> None:
    drawn = heads.figure(heads.panels(PAIRED))
    assert len(drawn.data) == 3
    assert [note.text for note in drawn.layout.annotations[3:]] == ["Head"] * 3
    many = HeadScores("ablation", 8, {"decoder.heads": [[1.0] * 64] * 80})
    large = heads.figure(heads.panels(many))
    assert len(large.layout.xaxis.ticktext) <= 16
    assert large.layout.height < 1000


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_colours_are_in_order_of_lightness_alone(palette: style.Palette) -> None:
    scale = heads.figure(heads.panels(GROUPED)).layout.coloraxis.colorscale
    names = {colour: name for name, colour in style.LIGHT._asdict().items()}
    colours = [getattr(palette, names[colour]) for _, colour in scale]
    away = [contrast(palette.paper, colour) for colour in colours]
    assert all(after > 2 * before for before, after in pairwise(away))


@pytest.mark.parametrize("scores", [GROUPED, PAIRED], ids=["ablation", "gradient"])
def test_the_scale_is_marked_with_shares_where_their_colour_is(scores: HeadScores) -> None:
    scale = json.loads(heads.heat_map(scores).spec)["layout"]["coloraxis"]["colorbar"]
    half = scale["tickvals"][scale["ticktext"].index("50%")]
    assert half == pytest.approx(0.5**0.5 if scores is GROUPED else 0.5)
    assert ("square root" in scale["title"]["text"]) == (scores is GROUPED)


def test_the_heat_map_tells_in_words_what_it_shows() -> None:
    plot = heads.heat_map(GROUPED)
    assert plot.title == (
        "By ablation: how far the model's output moves when the head alone is removed"
    )
    assert plot.says == (
        "Heat-map. Decoder, self-attention: 8 heads in 2 layers, from 0 in layer 0, head 3 to "
        "8.00 in layer 1, head 1."
    )


def test_the_page_is_one_file_that_loads_nothing_beside_its_table(tmp_path: Path) -> None:
    page, table = heads.write_heads(GROUPED, "<b>org/teacher", tmp_path / "new")
    assert sorted(path.name for path in page.parent.iterdir()) == ["heads.csv", "heads.html"]
    with table.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    assert rows[0] == ["site", "layer", "head", "kv_group", "importance"]
    assert rows[3] == ["decoder.heads", "0", "2", "1", "2.0"]
    read = Page(page.read_text(encoding="utf-8"))
    assert read.left_open == []
    assert set(read.plots) == {"heads-ablation"}
    assert not read.all("b")
    assert "<b>org/teacher" in read.text
    assert "KV group" in read.text
    links = [v for _, given in read.tags for key in ("src", "href") if (v := given.get(key))]
    assert links == ["data:,", "#map", "#least", "#all"]
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_heads_without_groups_have_no_column_for_them() -> None:
    assert "KV group" not in Page(heads.heads_page(PAIRED, "t")).text


def test_the_report_shows_the_heat_maps_that_the_study_recorded() -> None:
    about = ABOUT | {"heads": [GROUPED.record(), PAIRED.record()]}
    front = classic(about=about)
    assert {"heads-ablation", "heads-gradient"} <= set(Page(report.page(front)).plots)


@pytest.mark.parametrize("scores", [GROUPED, PAIRED], ids=["grouped", "paired"])
def test_a_browser_without_network_draws_it(
    tmp_path: Path, scores: HeadScores, browser: Browser
) -> None:
    path, _ = heads.write_heads(scores, "teacher", tmp_path)
    document, console = browser(path)
    assert 'class="plot js-plotly-plot"' in document
    assert document.count('class="hm"') >= len(scores.sites)
    assert "CONSOLE" not in console
