"""Tables are sorted, filtered and saved in the browser."""

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

from protege.search import State
from protege.search.report import page as report
from tests.search.report.drawn import classic, student
from tests.search.report.pages import Browser, driven

DRIVER = """
const saved = [];
URL.createObjectURL = (blob) => { saved.push(blob); return "#"; };
const region = document.querySelector(".scroll[aria-label='All trials']");
region.closest("details").open = true; // what is folded cannot be focused
const bar = region.previousElementSibling;
const table = region.querySelector("table");
const order = () => texts2(table);
const texts2 = (one) => [...one.tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => Number(row.cells[0].textContent));
const heading = [...table.tHead.rows[0].cells].find((one) => one.textContent.startsWith("Latency"));
const button = heading.querySelector("button");
button.focus();
const focused = document.activeElement === button;
button.click();
const up = [order(), heading.ariaSort];
button.click();
const down = [order(), heading.ariaSort];
set(bar.querySelector("input"), "<B>");
const filtered = [order(), bar.querySelector("[aria-live]").textContent];
for (const one of bar.querySelectorAll("button")) one.click();
const sticky = getComputedStyle(table.tBodies[0].rows[0].cells[0]).position;
Promise.all(saved.map((blob) => blob.text())).then((files) =>
  tell({ focused, up, down, filtered, files, sticky,
    names: bar.querySelector("input").ariaLabel }));
"""


def test_a_table_is_sorted_filtered_and_saved(tmp_path: Path, browser: Browser) -> None:
    why = 'Error: <b>, "quoted"'
    failed = replace(student(5, {}), state=State.FAILED, reason=why)
    found, console = driven(report.page(classic(failed)), DRIVER, tmp_path, browser)
    assert found["focused"]
    assert found["up"] == [[4, 1, 2, 3, 0, 5], "ascending"]
    assert found["down"] == [[0, 3, 2, 1, 4, 5], "descending"]
    assert found["filtered"] == [[5], "1 of 6 rows"]
    assert found["sticky"] == "sticky"
    assert found["names"] == "Filter: All trials"
    (row,) = csv.DictReader(StringIO(found["files"][0]))
    assert (row["Trial"], row["State"], row["Why"]) == ("5", "failed", why)
    assert json.loads(found["files"][1]) == [row]
    assert "CONSOLE" not in console
