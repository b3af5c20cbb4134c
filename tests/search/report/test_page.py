import json
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from protege.objectives import Measurement
from protege.search import Front, State
from protege.search.cli.main import main
from protege.search.progress import PhaseTimes
from protege.search.report import page as report
from protege.search.report import style, tables
from protege.search.report.page import write_report
from protege.search.report.parts import Table
from protege.search.report.sections.accounting import bars
from protege.search.report.sections.convergence import growth, progress
from protege.search.report.sections.sizes import composition
from protege.spaces import DiskFull
from studies.benchmarks.report import large_front
from tests.disks import small_disk
from tests.search.report.drawn import ABOUT, LATENCY, RETENTION, classic, drawn, objective, student
from tests.search.report.pages import Browser, Page, contrast, printed
from tests.search.toys import OWN

MEMORY = objective("memory_mb")


def texts(table: Table) -> list[dict[str, str]]:
    """The table's cells by the titles of their columns, errors behind a ±."""
    titles = [column.title for column in table.columns]
    rows = [
        [f"{c.text} ± {c.spread} {c.mark}".rstrip() if c.spread else c.text for c in row]
        for row in table.rows
    ]
    return [dict(zip(titles, row, strict=True)) for row in rows]


def mixed() -> Front:
    """Trials in every state, three objectives, a limit, and names that look like markup."""
    objectives = [objective("latency_ms", limit=35.0), MEMORY, RETENTION]
    rows = [(40.0, 90.0, 1.0), (10.0, 20.0, 0.3), (20.0, 30.0, 0.8), (12.0, 60.0, 0.7)]
    screened = student(4, {"latency_ms": 50.0}, state=State.SCREENED, reason="over the limit")
    failed = student(5, {}, state=State.FAILED, reason="RuntimeError: </script><b>&")
    about = ABOUT | {
        "teacher": {"key": "key-0", "source": "<i>&amp;", "architecture": OWN.fields()}
    }
    return drawn(objectives, rows, screened, failed, name="<script>alert(1)</script>", about=about)


def test_facts_count_what_became_of_the_trials() -> None:
    front = mixed()
    beaten = replace(front.trials[3], number=6, state=State.STOPPED, rungs={3: {"retention": 0.7}})
    raced = replace(front, trials=(*front.trials, beaten))
    found = {term: (figure, note) for term, figure, note in report.facts(raced)}
    became = "4 complete, 1 stopped, 1 screened, 1 failed; 61 students in the space"
    assert found["Trials"] == ("7", became)
    assert found["Students on the front"] == (
        "2",
        "no trial is better in one objective and no worse in the rest; the naive half not counted",
    )
    assert found["Time spent"][0] == "1 h 7 min"
    assert found["Teacher"][1] == "bert, 4 layers of 24, 6 heads, feed-forward 40, vocabulary 96"


def test_facts_carry_the_hypervolume_of_the_front() -> None:
    front = classic()
    found = {term: figure for term, figure, _ in report.facts(front)}
    assert found["Hypervolume"] == f"{front.hypervolume:.3f}" == "0.575"


@pytest.mark.parametrize(
    ("front", "why"),
    [
        (classic(about={}), "the teacher, which has no trial in this study"),
        (
            classic(
                student(9, {}, state=State.SCREENED, reason="too slow", key="key-t"),
                about={"teacher": {"key": "key-t"}},
            ),
            "whose trial was screened: too slow",
        ),
    ],
    ids=["no trial of the teacher", "a teacher that was screened"],
)
def test_without_the_teacher_s_values_the_hypervolume_is_unknown(front: Front, why: str) -> None:
    found = {term: (figure, note) for term, figure, note in report.facts(front)}
    assert found["Hypervolume"][0] == "unknown"
    assert why in found["Hypervolume"][1]
    assert growth(progress(front)) is None


def test_the_table_of_students_is_the_front_to_the_number() -> None:
    first = texts(tables.students(classic()))[0]
    assert first == {
        "Trial": "4",
        "Student": "1x24-h6-f40-t4",
        "Latency (ms)": "8.00 ± 0.08",
        "Retention": "0.500 ± 0.005",
        "Times faster": "5.00",
        "Layers": "1",
        "Hidden": "24",
        "Heads": "6",
        "Feed-forward": "40",
        "Policies": "uniform, first, none",
    }


def test_the_table_of_students_is_in_the_order_of_the_front() -> None:
    front = classic()
    assert [row["Trial"] for row in texts(tables.students(front))] == ["4", "2", "3", "0"]
    assert [member.number for member in front.members] == [4, 2, 3, 0]


def test_times_faster_is_a_column_only_where_a_latency_tells() -> None:
    table = tables.students(drawn([MEMORY, RETENTION], [(90.0, 1.0), (20.0, 0.3)]))
    assert "Times faster" not in {column.title for column in table.columns}


def test_grouped_heads_are_shown_with_their_groups() -> None:
    own = OWN.fields() | {"num_key_value_heads": 2}
    one = student(5, {"latency_ms": 1.0, "retention": 0.4}, architecture=own)
    assert texts(tables.students(classic(one)))[0]["Heads"] == "6 / 2 KV"


def test_an_error_too_small_for_the_column_is_left_out() -> None:
    noisy = {"latency_ms": Measurement(1.0, 0.3), "retention": Measurement(0.4, 2e-17)}
    one = student(5, {}, measurements=noisy)
    found = texts(tables.students(classic(one)))[0]
    assert (found["Latency (ms)"], found["Retention"]) == ("1.00 ± 0.30", "0.400")


def test_the_table_of_all_trials_says_why_one_was_not_finished() -> None:
    rows = texts(tables.all_trials(mixed()))
    assert [row["Trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[4]["State"] == "screened"
    assert (rows[4]["Latency (ms)"], rows[4]["Retention"]) == ("50.0 ± 0.5", "-")
    assert rows[5]["Why"] == "RuntimeError: </script><b>&"


def test_the_commands_of_the_report_do_what_it_says(
    tmp_path: Path, front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = report.commands(front)
    program, *words = commands["pick"].split()
    assert program == "protege"
    assert main(words) == 0
    assert f"trial {front.knee().trial.number}:" in capsys.readouterr().out
    exported = tmp_path / "exported"
    assert main([*commands["export"].split()[1:], "--to", str(exported)]) == 0
    assert (exported / "config.json").exists()


def test_a_folder_with_spaces_is_quoted_in_the_commands() -> None:
    commands = report.commands(classic(folder=Path("my runs/toy")))
    assert commands["export"] == "protege export 'my runs/toy' --trial 2"
    assert commands["pick"] == "protege pick 'my runs/toy' --budget latency_ms=20.0"


def test_a_budget_in_thousands_is_written_as_one_types_it() -> None:
    rows = [(1669.0, 1.0), (400.0, 0.1), (1238.0, 0.5)]
    assert report.commands(drawn([LATENCY, RETENTION], rows))["pick"].endswith("latency_ms=1240")


def test_an_objective_is_one_word_of_the_commands_whatever_its_name() -> None:
    odd = objective("size; touch x\n\x1b[2J")
    commands = report.commands(drawn([odd, RETENTION], [(9.0, 1.0), (2.0, 0.1), (5.0, 0.8)]))
    assert commands["pick"].isprintable()
    line = f"set -- {commands['pick']}; printf '%s|' \"$@\""
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout.decode()
    assert said == f"protege|pick|runs/toy|--budget|{odd.name}=5.00|"


@pytest.mark.parametrize(
    "rows", [[(40.0, 1.0)], [(40.0, 1.0), (10.0, 0.3)]], ids=["teacher", "and naive half"]
)
def test_no_command_is_suggested_where_there_is_no_student(
    rows: list[tuple[float, float]],
) -> None:
    front = drawn([LATENCY, RETENTION], rows)
    assert report.commands(front) == {}
    text = Page(report.page(front)).text
    assert "There is no student on the front yet" in text
    assert "protege export" not in text


def test_errors_that_are_floors_and_grades_that_are_bad_are_said() -> None:
    def found(ms: float, kept: float, **details: str) -> dict[str, Measurement]:
        return {
            "latency_ms": Measurement(ms, ms * 0.015, (), details),
            "retention": Measurement(kept, 0.001),
        }

    rows = [
        student(5, {}, measurements=found(30.0, 0.93, grade="A", error_floor="1.5%")),
        student(6, {}, measurements=found(30.2, 0.95, grade="C")),
        student(7, {}, measurements=found(12.0, 0.5, grade="B", error_floor="1.5%")),
    ]
    front = drawn([LATENCY, RETENTION], [(40.0, 1.0), (39.0, 0.1)], *rows)
    cells = {row["Trial"]: row for row in texts(tables.students(front))}
    shown = {number: row["Latency (ms)"] for number, row in cells.items()}
    assert shown["5"] == "30.0 ± 0.4 (floor)"
    assert shown["6"] == "30.2 ± 0.5"
    assert {number: row["Dominated within noise by"] for number, row in cells.items()} == {
        **dict.fromkeys("670", ""),
        "5": "t6",
    }
    notes = report.notes(front)
    assert notes[0].startswith("An error marked (floor) is 1.5% of the latency")
    assert notes[1].startswith("A student that is dominated within noise")
    assert [note[:20] for note in notes[2:]] == ["t7: latency of grade", "t6: latency of grade"]
    assert all(note in Page(report.page(front)).text for note in notes)


def test_a_plot_tells_in_words_what_it_shows() -> None:
    curve = growth(progress(classic()))
    assert curve is not None
    assert curve.says == (
        "Line plot: the hypervolume reaches 0.575 with trial 4 and is flat from there to trial 4."
    )


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path, front: Front) -> None:
    front.save(tmp_path / "report")
    path = write_report(front, tmp_path / "report" / "index.html")
    assert {entry.name for entry in path.parent.iterdir()} == {"front.csv", "index.html"}
    assert path.stat().st_size < 2.5e6
    page = Page(path.read_text(encoding="utf-8"))
    links = [
        value for _, given in page.tags for key in ("src", "href") if (value := given.get(key))
    ]
    marks = {f"#{one['id']}" for one in page.all("g") if "id" in one}
    links = [link for link in links if link not in marks]
    anchors = [f"#{section['id']}" for section in page.all("section") if "id" in section]
    assert links == ["data:,", *anchors, "front.csv"]
    styles = re.findall(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert not any("url(" in style or "@import" in style for style in styles)


def test_the_report_of_three_hundred_trials_is_small(tmp_path: Path) -> None:
    assert len(report.page(large_front(tmp_path))) < 2.5e6


def test_the_table_at_full_precision_is_linked_where_it_is(tmp_path: Path) -> None:
    front = classic(folder=tmp_path)
    assert "front.csv" not in write_report(front, tmp_path / "report" / "index.html").read_text()
    front.save()
    page = Page(write_report(front, tmp_path / "report" / "index.html").read_text())
    assert "../front.csv" in [one.get("href") for one in page.all("a")]
    page = Page(write_report(front, tmp_path / "away" / "there" / "index.html").read_text())
    assert not [one for one in page.all("a") if "front.csv" in str(one.get("href"))]


def test_the_report_forbids_itself_to_load_anything() -> None:
    policy = next(m for m in Page(report.page(classic())).all("meta") if "http-equiv" in m)
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert str(policy["content"]).startswith("default-src 'none';")


def test_names_from_the_study_are_text_wherever_they_stand() -> None:
    page = Page(report.page(mixed()))
    assert page.left_open == []
    assert not page.all("b")
    assert not page.all("i")
    assert "<script>alert(1)</script>" in page.text
    assert "<i>&amp;" in page.text
    assert "RuntimeError: </script><b>&" in page.text
    assert all(json.loads(spec)["data"] for spec in page.plots.values())


def test_headings_descend_without_gaps_and_tables_and_plots_are_named() -> None:
    page = Page(report.page(mixed()))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"
    assert {heading.get("scope") for heading in page.all("th")} == {"col", "row"}
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(set(ids)) == len(ids)
    plots = [given for given in page.all("div") if given.get("class") == "plot"]
    assert {str(given["id"]) for given in plots} == set(page.plots)
    assert all(given["role"] == "img" and given["aria-label"] for given in plots)


@pytest.mark.parametrize("palette", [style.LIGHT, style.DARK], ids=["light", "dark"])
def test_text_stands_out_from_the_page(palette: style.Palette) -> None:
    for text in (palette.ink, palette.soft, palette.accent):
        assert contrast(text, palette.paper) >= 4.5
    assert contrast(palette.ink, palette.grid) >= 4.5


def test_the_palettes_can_be_exchanged_colour_by_colour() -> None:
    light, dark = style.LIGHT, style.DARK
    assert len({*light, *dark}) == 2 * len(light)


@pytest.mark.parametrize(
    "front",
    [
        drawn([LATENCY], [(40.0,), (10.0,)]),
        drawn([LATENCY, MEMORY], [(40.0, 90.0), (10.0, 20.0)]),
        drawn(
            [LATENCY, MEMORY, RETENTION, objective("agreement", "maximize")],
            [(4.0, 9.0, 1.0, 1.0)] * 2,
        ),
        classic(limit_ms=1.0),
        classic(about={}),
        mixed(),
    ],
    ids=[
        "one objective",
        "only costs",
        "four objectives",
        "nobody within the limit",
        "unrecorded",
        "mixed",
    ],
)
def test_a_report_is_written_whatever_was_found(tmp_path: Path, front: Front) -> None:
    page = Page(write_report(front, tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.left_open == []
    assert "pair-0" in page.plots


def test_sections_without_anything_to_show_are_left_out() -> None:
    front = drawn([LATENCY, RETENTION], [(40.0, 1.0)], about={})
    assert composition(front) is None
    assert bars(PhaseTimes({})) is None
    assert set(Page(report.page(front)).plots) == {"pair-0"}


def test_a_report_that_cannot_be_written_leaves_the_one_before() -> None:
    with small_disk(1) as disk:
        path = disk / "index.html"
        path.write_text("before")
        with pytest.raises(DiskFull):
            write_report(classic(name="long" * 300_000), path)
        assert [entry.name for entry in disk.iterdir()] == ["index.html"]
        assert path.read_text() == "before"


def test_names_with_controls_of_text_are_written_out() -> None:
    odd = objective("si\x1b[2Jze\u202e")
    rows = [(9.0, 1.0), (2.0, 0.1), (5.0, 0.8)]
    front = drawn([odd, RETENTION], rows, name="x\u2066\ud800", folder=Path("runs/\u202egnp"))
    page = report.page(front)
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "x\\u2066\\ud800" in Page(page).text
    assert "Si\\x1b[2Jze\\u202e" in Page(page).text


@pytest.mark.parametrize("front", [classic(), mixed()], ids=["classic", "mixed"])
def test_a_browser_without_network_draws_every_plot_and_has_nothing_to_say(
    tmp_path: Path, front: Front, browser: Browser
) -> None:
    path = write_report(front, tmp_path / "index.html")
    document, console = browser(printed(path))
    plots = len(Page(path.read_text(encoding="utf-8")).plots)
    assert len(re.findall(r'class="plot js-plotly-plot"', document)) == plots
    assert document.count('<svg class="main-svg"') >= plots
    assert "CONSOLE" not in console


def test_sizes_that_few_studies_search_are_columns_where_trials_differ_in_them() -> None:
    usual = classic()
    assert "Vocabulary" not in texts(tables.students(usual))[0]
    assert "vocabulary" not in str(usual)
    trials = [
        replace(trial, architecture={**trial.architecture, "vocab_size": 48 + trial.number})
        for trial in usual.trials
    ]
    front = replace(usual, trials=tuple(trials))
    shown = [row["Vocabulary"] for row in texts(tables.students(front))]
    assert shown == [str(48 + trial.number) for trial in front.members]
    assert "vocabulary" in str(front)


def test_a_study_of_a_model_without_tokens_or_dense_layers_has_a_page(tmp_path: Path) -> None:
    lacking = ("vocab_size", "intermediate_size")
    trials = [
        replace(t, architecture={n: v for n, v in t.architecture.items() if n not in lacking})
        for t in classic().trials
    ]
    front = replace(classic(), trials=tuple(trials))
    own = {name: v for name, v in OWN.fields().items() if name not in lacking}
    about = {**front.about, "teacher": {**front.about["teacher"], "architecture": own}}
    page = write_report(replace(front, about=about), tmp_path / "index.html")
    assert "<td" in page.read_text(encoding="utf-8")
    assert texts(tables.students(front))[0]["Feed-forward"] == "-"
