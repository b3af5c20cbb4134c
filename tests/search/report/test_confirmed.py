"""Confirmed figures are beside those of the search, and what they overturn is said."""

from pathlib import Path

from protege.search import Front
from protege.search.analysis.choosing import bounded, knee, timed
from protege.search.analysis.confirmation import Confirmation
from protege.search.report import tables
from protege.search.report.budgets import budget_control
from protege.search.report.commands import CONFIRM, commands
from protege.search.report.page import notes
from tests.search.report.drawn import classic


def confirmed(folder: Path) -> Front:
    """A front whose student 3 is slower and worse than student 2 by the confirmed figures."""
    Confirmation(2, "", {"latency_ms": 21.0, "unseen_retention": 0.82}).store(folder)
    Confirmation(3, "", {"latency_ms": 29.0, "retention": 0.9, "unseen_retention": 0.8}).store(
        folder
    )
    return classic(folder=folder)


def test_the_table_of_the_front_has_columns_of_confirmed_figures(tmp_path: Path) -> None:
    table = tables.students(confirmed(tmp_path))
    titles = [column.title for column in table.columns]
    rows = {
        row[0].text: dict(zip(titles, (cell.text for cell in row), strict=True))
        for row in table.rows
    }
    assert rows["2"]["Latency (ms), confirmed"] == "21.0"
    assert rows["2"]["Retention, confirmed"] == "0.820"
    assert rows["4"]["Latency (ms), confirmed"] == "-"
    assert rows["3"]["Dominated when confirmed by"] == "t2"
    assert rows["2"]["Dominated when confirmed by"] == ""


def test_a_sentence_names_what_confirmed_figures_dominate(tmp_path: Path) -> None:
    said = "By the figures that were confirmed, some students are dominated: t3 by t2."
    assert said in notes(confirmed(tmp_path))
    assert not [note for note in notes(classic()) if "confirmed" in note]


def test_a_card_has_confirmed_figures_or_the_line_that_confirms(tmp_path: Path) -> None:
    front = confirmed(tmp_path)
    control = budget_control(front, bounded(front), timed(front), knee(front).trial)
    rows = {card.trial: {term: value for term, value, _ in card.rows} for card in control.cards}
    assert float(rows[3]["Latency (ms), confirmed"]) == 29.0
    assert rows[3]["dominated when confirmed by"] == "t2"
    assert "Latency (ms), confirmed" not in rows[4]
    for number, is_missing in ((3, False), (4, True)):
        lines = dict(commands(front, front.trial(number)))["absolute path"]
        assert (CONFIRM[0] in dict(lines)) == is_missing


def test_a_study_without_confirmed_figures_has_no_columns_for_them() -> None:
    assert not [one for one in tables.students(classic()).columns if "onfirmed" in one.title]
