"""Ranges of the parallel coordinates are set by hand, and the table follows, in a real browser."""

from pathlib import Path
from typing import Any

from protege.search.report.page import page
from tests.search.report.drawn import classic, student
from tests.search.report.pages import Browser, driven

ROWS = """
const rows = () => [...document.querySelectorAll("#compared-table tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[0].textContent.trim());
const said = () => document.getElementById("brushed").textContent;
const [axis, from, to] = document.querySelectorAll("#brush select, #brush input");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
"""
"""What the scripts below read of the section."""


def found(tmp_path: Path, browser: Browser, script: str) -> Any:
    """What a script tells of a page with four finished students: trials 2, 3, 4 and 5."""
    front = classic(student(5, {"latency_ms": 25.0, "retention": 0.7}))
    told, console = driven(page(front), ROWS + script, tmp_path, browser)
    assert "CONSOLE" not in console
    return told


def test_typed_ranges_keep_students_and_say_so(tmp_path: Path, browser: Browser) -> None:
    script = """
    const told = [[rows(), said()]];
    const choose = (name) => {
      axis.value = [...axis.options].find((one) => one.textContent.trim() === name).value;
      axis.dispatchEvent(new Event("input"));
    };
    choose("Retention"); set(from, "0.75"); told.push([rows(), said()]);
    choose("Latency (ms)"); set(to, "25"); told.push([rows(), said()]);
    choose("Retention"); told.push(from.value);
    document.querySelector("#brush button").click();
    setTimeout(() => tell([...told, [rows(), said(), from.value]]));
    """
    assert found(tmp_path, browser, script) == [
        [["2", "3", "4", "5"], ""],
        [["2", "3"], "2 of 4 students kept (t2 t3): Retention at least 0.75."],
        [
            ["2"],
            "1 of 4 students kept (t2): Retention at least 0.75; Latency (ms) at most 25.",
        ],
        "0.75",
        [["2", "3", "4", "5"], "", ""],
    ]


def test_the_filter_of_the_table_and_the_ranges_hold_together(
    tmp_path: Path, browser: Browser
) -> None:
    script = """
    setTimeout(() => {  // after the tables have got their filters
      const filter = document.querySelector("#compared-table input[type=search]");
      const type = (text) => {
        filter.value = text;
        filter.dispatchEvent(new Event("input", { bubbles: true }));
      };
      axis.value = String(axis.options.length - 1);
      set(from, "0.6");
      const ranged = rows();
      type("yes");
      const both = rows();
      type("");
      tell([ranged, both, rows()]);
    });
    """
    ranged, both, ranged_again = found(tmp_path, browser, script)
    assert ranged == ranged_again == ["2", "3", "5"]
    assert both == ["2", "3"]


def test_a_drag_over_an_axis_keeps_the_students_there(tmp_path: Path, browser: Browser) -> None:
    script = """
    const plot = document.getElementById("parallel");
    plot.addEventListener("drawn", async () => {
      await pause(100);
      const area = plot.querySelector(".nsewdrag").getBoundingClientRect();
      const layout = plot._fullLayout;
      const at = (axis, share) => ({
        clientX: area.left + layout.xaxis.l2p(axis), clientY: area.top + layout.yaxis.l2p(share),
        bubbles: true, button: 0, buttons: 1, view: window,
      });
      const last = axis.options.length - 1;
      const drag = plot.querySelector(".nsewdrag");
      drag.dispatchEvent(new MouseEvent("mousedown", at(last - 0.2, 1.05)));
      await pause(50);
      document.dispatchEvent(new MouseEvent("mousemove", at(last, 0.8)));
      await pause(50);
      document.dispatchEvent(new MouseEvent("mousemove", at(last + 0.2, 0.7)));
      await pause(50);
      document.dispatchEvent(new MouseEvent("mouseup", at(last + 0.2, 0.7)));
      await pause(400);
      const lines = plot.data.map((trace) => trace.x.filter((one) => one === null).length);
      tell([rows(), said(), axis.value, Number(from.value), lines, layout.shapes.length]);
    }, { once: true });
    plot.scrollIntoView();
    """
    rows, said, axis, low, lines, _ = found(tmp_path, browser, script)
    assert rows == ["2", "3"]
    assert said.startswith("2 of 4 students kept (t2 t3): Retention at least 0.78")
    assert axis == "2"
    assert 0.77 < low < 0.79
    assert lines == [2, 0, 2]  # not kept, others, on the front


def test_plots_wait_until_they_are_near_the_screen(tmp_path: Path, browser: Browser) -> None:
    script = """
    const drawn = () => [...document.querySelectorAll(".js-plotly-plot")].map(({ id }) => id);
    plots.then(async () => {
      const first = drawn();
      document.getElementById("time").scrollIntoView();
      await pause(1000);
      const scrolled = drawn();
      dispatchEvent(new Event("beforeprint"));
      tell([first, scrolled, drawn().length, document.querySelectorAll(".plot").length]);
    });
    """
    first, scrolled, printed, every = found(tmp_path, browser, script)
    assert "pair-0" in first
    assert "time" not in first
    assert "time" in scrolled
    assert printed == every
