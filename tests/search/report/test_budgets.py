"""The budget control chooses in a browser what `Front.pick` chooses, and says all of it."""

import json
import random
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Measurement
from protege.search import Front
from protege.search.analysis.choosing import bounded, knee, pick, timed
from protege.search.records.results import weights_folder
from protege.search.report import page as report
from protege.search.report.budgets import BudgetControl, budget_control
from protege.search.report.commands import commands
from protege.spaces import BadInput
from tests.search.report.drawn import ABOUT, RETENTION, classic, drawn, objective, student
from tests.search.report.pages import Browser, Page, driven

MARKUP = "<b>x</b>&\"'"


def control(front: Front) -> BudgetControl:
    return budget_control(front, bounded(front), timed(front), knee(front).trial)


def noisy() -> Front:
    """A study of three objectives, one named like markup, in which noise dominates students."""
    draw = random.Random(3)
    objectives = [objective("latency_ms"), RETENTION, objective(MARKUP, "maximize")]
    rows = [(100.0, 1.0, 1.0), (90.0, 0.05, 0.05)]
    rows += [(ms, ms / 100 * draw.uniform(0.8, 1.1), draw.random()) for ms in range(10, 90, 3)]
    front = drawn(objectives, rows, name=MARKUP, about=ABOUT | {"processor": MARKUP})
    loose = [
        replace(
            trial,
            measurements={
                name: replace(one, spread=abs(one.value) * 0.06)
                for name, one in trial.measurements.items()
            },
        )
        for trial in front.trials
    ]
    return replace(front, trials=tuple(loose))


def budgets_over(front: Front) -> list[dict[str, float]]:
    """Budgets on every combination of objectives, at, between and beyond the students' values."""
    choices: list[list[float | None]] = []
    for one in bounded(front):
        is_own = one in front.objectives.records
        values = sorted(
            t.measurements[one.name].value if is_own else t.speedup for t in front.students
        )
        some = [values[at * (len(values) - 1) // 3] for at in range(4)]
        choices.append([None, *some, values[0] * 0.9, values[-1] * 1.1])
    names = [one.name for one in bounded(front)]
    every = [dict(zip(names, row, strict=True)) for row in product(*choices)]
    random.Random(1).shuffle(every)
    kept = [{name: b for name, b in row.items() if b is not None} for row in every[:400]]
    return [{}, *kept]


def picked(front: Front, budgets: dict[str, float]) -> int | None:
    try:
        return pick(front, budgets).trial.number
    except BadInput:
        return None


def test_a_card_says_sizes_ratios_errors_and_neighbours() -> None:
    front = classic()
    found = control(front)
    assert found.knee == 2
    assert [card.trial for card in found.cards] == [4, 2, 3]
    card = found.cards[1]
    rows = {term: (value, ratio) for term, value, ratio in card.rows}
    assert rows["layers"] == ("3", "75%")
    assert rows["hidden size"] == ("24", "100%")
    assert rows["Latency (ms)"] == ("20 ± 0.2", "50%")
    assert rows["times faster"] == ("2.00 ± 0.02", "")
    assert "parameters" not in rows
    assert card.neighbours == [
        "One step down the front: t4, Latency (ms) 8.00, Retention 0.500",
        "One step up the front: t3, Latency (ms) 30.0, Retention 0.900",
    ]
    assert len(found.cards[0].neighbours) == 1
    assert "KV heads" not in rows  # each head has its own
    assert "vocabulary" not in rows  # it is the teacher's


def test_a_card_counts_parameters_and_names_kept_layers_where_known(tmp_path: Path) -> None:
    front = classic(folder=tmp_path)
    counted = [replace(t, parameters=10_000_000 * (4 - t.number % 4)) for t in front.trials]
    stored = weights_folder(tmp_path, 2)
    stored.mkdir(parents=True)
    kept = {"kept": {"layers": {"encoder": [0, 4, 5]}}}
    (stored / "protege.json").write_text(json.dumps(kept))
    card = control(replace(front, trials=tuple(counted))).cards[1]
    assert ("parameters", "20.0 M", "50%") in card.rows
    assert ("weights in float32", "80.0 MB", "50%") in card.rows
    assert ("kept layers", "encoder 0 4 5", "") in card.rows


def test_a_card_names_ties_and_what_dominates_within_noise() -> None:
    values = {"latency_ms": 20.1, "retention": 0.801}
    wide = {name: Measurement(value, value / 50) for name, value in values.items()}
    found = control(classic(student(5, {}, measurements=wide)))
    rows = {card.trial: {term: value for term, value, _ in card.rows} for card in found.cards}
    assert rows[2]["within noise of"] == "t5"
    assert rows[5]["within noise of"] == "t2"
    assert "within noise of" not in rows[4]


def test_the_commands_have_the_absolute_and_the_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    front = classic(folder=Path("my runs/toy"))
    found = {place: dict(lines) for place, lines in commands(front, front.trials[2])}
    there = tmp_path / "my runs" / "toy"
    near, far = found["relative path"], found["absolute path"]
    assert near["Export on the command line"] == "protege export 'my runs/toy' --trial 2"
    assert far["Export on the command line"] == f"protege export '{there}' --trial 2"
    assert near["Export in Python"].endswith("Front.read('my runs/toy').export(2)")
    assert near["Train on the command line"] == "protege train 'my runs/toy' --trial 2 --data FILE"
    assert near["Train in Python"].endswith(
        "Front.read('my runs/toy').train(2, Texts.from_file(\"texts.jsonl\"))"
    )
    assert far["Confirm the front"] == f"protege confirm '{there}'"
    away = replace(front, folder=Path("/elsewhere/toy"))
    assert [place for place, _ in commands(away, front.trials[2])] == ["absolute path"]


def test_every_control_has_a_name_and_changes_are_announced() -> None:
    page = Page(report.page(noisy()))
    fields = [one for one in page.all("input") if one.get("type") in {"range", "number"}]
    ends = 2  # of a range in the comparison of all students
    assert len(fields) == 2 * len(bounded(noisy())) + ends
    assert all(one["aria-label"] for one in fields)
    assert [one for one in page.all("p") if one.get("aria-live") == "polite"]
    assert not page.all("b")
    assert page.left_open == []


DRIVER = """
const first = document.querySelectorAll("[type=range]");
const second = document.querySelectorAll("[type=number]");
const shownCard = () => Number(document.querySelector(".card:not([hidden])")?.dataset.trial ?? -1);
const winners = BUDGETS.map((row) => {
  row.forEach((bound, at) => { second[at].value = bound ?? ""; });
  set(second[0], second[0].value);
  return shownCard();
});
plots.then(() => {
  second.forEach((one) => { one.value = ""; });
  set(second[0], 1);
  const none = [shownCard(), document.getElementById("chosen").textContent];
  set(first[0], 1e9);
  const loosest = [second[0].value, shownCard()];
  set(first[0], 25);
  const ring = document.getElementById("pair-0").data.at(-1);
  tell({ winners, none, loosest, ring: [ring.name, ring.x, ring.y], card: shownCard(),
    typed: second[0].value, spoken: first[0].getAttribute("aria-valuetext"),
    said: document.getElementById("chosen").textContent,
    more: document.querySelector(".card:not([hidden]) .more").textContent,
    bold: document.querySelectorAll("b").length });
});
"""


@pytest.mark.parametrize("front", [classic(), noisy()], ids=["classic", "noisy"])
def test_a_browser_chooses_as_pick_does(tmp_path: Path, front: Front, browser: Browser) -> None:
    names = [one.name for one in bounded(front)]
    asked = budgets_over(front)
    rows: list[list[Any]] = [[row.get(name) for name in names] for row in asked]
    script = DRIVER.replace("BUDGETS", json.dumps(rows))
    found, console = driven(report.page(front), script, tmp_path, browser)
    expected = [picked(front, row) for row in asked]
    assert len({*expected}) > 3
    assert found["winners"] == [-1 if one is None else one for one in expected]
    assert found["none"] == [-1, "No student on the front is within that budget."]
    assert found["loosest"] == ["", knee(front).trial.number]
    best = pick(front, {names[0]: 25.0}).trial
    assert found["card"] == best.number
    latency, kept = (best.measurements[name].value for name in ("latency_ms", "retention"))
    assert found["ring"][0] == "Chosen"
    assert found["ring"][1:] == [
        [pytest.approx(latency, rel=1e-5)],
        [pytest.approx(kept, rel=1e-5)],
    ]
    assert found["typed"] == found["spoken"]
    assert found["said"].startswith(f"t{best.number}: ")
    assert "10% more" in found["more"]
    assert found["bold"] == 0
    assert "CONSOLE" not in console
