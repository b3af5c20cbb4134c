"""The card of a student, and how results show themselves."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from protege.search import ChosenStudent, Front
from protege.search.analysis.card import brief, neighbours, student_record
from protege.search.analysis.choosing import bounded, timed
from protege.search.report.budgets import budget_control
from protege.spaces import BadInput, Range, SearchSpace, Teacher
from tests.search.report.drawn import LATENCY, classic, drawn, objective, student
from tests.search.toys import toy

MARKUP = "<b>x</b>\x1b[31m"


def sized(*counts: int | None) -> Front:
    """The classic front, whose trials have these numbers of parameters."""
    front = classic()
    trials = [
        replace(trial, parameters=count) for trial, count in zip(front.trials, counts, strict=True)
    ]
    return replace(front, trials=tuple(trials))


SIZES = [40_000_000, 9_000_000, 20_000_000, 30_000_000, 10_000_000]


@pytest.mark.parametrize(
    ("budgets", "number"),
    [({"parameters_m": 25}, 2), ({"parameters_m": 10}, 4), ({"parameters_m": 12.5}, 4)],
)
def test_the_number_of_parameters_is_a_budget(budgets: dict[str, float], number: int) -> None:
    chosen = sized(*SIZES).pick(**budgets)
    assert chosen.trial.number == number
    assert chosen.why.endswith(f" within {budgets['parameters_m']:g} M parameters")


def test_a_missed_budget_of_parameters_says_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"the least parameters_m is 10.0 \(trial 4\)"):
        sized(*SIZES).pick(parameters_m=5)
    with pytest.raises(BadInput, match="parameters_m: the run did not record the parameters"):
        classic().pick(parameters_m=5)


def test_the_budget_control_of_the_report_has_the_number_of_parameters() -> None:
    front = sized(*SIZES)
    found = budget_control(front, bounded(front), timed(front), front.knee().trial)
    last = found.controls[-1]
    assert (last.title, last.bound, last.low, last.high) == ("Parameters (M)", "at most", 10, 30)
    assert found.data["objectives"][-1]["stands_for"] == len(found.controls) - 1
    assert [one["values"][-1] for one in found.data["students"]] == [10, 20, 30]


def test_an_objective_of_that_name_is_the_budget_itself() -> None:
    front = drawn([objective("parameters_m"), objective("quality", "maximize")], [(40, 1), (9, 0)])
    own = student(2, {"parameters_m": 20.0, "quality": 0.8})
    front = replace(front, trials=(*front.trials, own))
    assert front.pick(parameters_m=25).trial.number == 2


def test_a_card_has_figures_with_errors_parameters_and_neighbours() -> None:
    front = sized(*SIZES)
    chosen = front.pick(latency_ms=25)
    card = str(chosen)
    lines = dict(re.findall(r"^  (.*?)  +(.*)$", card, re.MULTILINE))
    assert lines["parameters"].split("  ")[0] == "20.0 M"
    assert lines["parameters"].endswith("50% of the teacher")
    assert "±" in lines["latency_ms"]
    assert "±" in lines["times faster"]
    assert lines["one step down"] == brief(front, front.trial(4))
    assert lines["one step up"] == brief(front, front.trial(3))
    assert max(map(len, card.splitlines())) <= 120


def test_a_trial_off_the_front_has_no_neighbours() -> None:
    front = classic()
    assert front.teacher is not None
    assert neighbours(front, front.teacher) == {}


def test_the_record_of_a_student_is_json(front: Front) -> None:
    chosen = front.knee()
    record = json.loads(json.dumps(chosen.record()))
    assert record["trial"] == chosen.trial.number
    assert record["parameters"] == chosen.trial.parameters
    assert set(record["objectives"]) == set(front.objectives.names)
    assert record["kept_layers"].startswith("encoder ")
    assert record == {**student_record(front, chosen.trial), "why": chosen.why} | record


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - of the base
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_results_show_themselves_as_small_tables_and_short_lines(
    front: Front, teacher: Teacher, tmp_path: Path
) -> None:
    search, chosen = toy(tmp_path / MARKUP.replace("/", ""), teacher=teacher), front.knee()
    space = SearchSpace(layers=Range(0.25, 1.0))
    shown: list[Any] = [front, search, space, search.students, chosen.trial, chosen]
    for one in shown:
        page = one._repr_html_()
        assert Tags(page).tags <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
        assert len(page) < 12_000
        assert not re.search(r"(?<!-)color: (?!inherit)|background", page)
        assert "\n" not in repr(one)
        assert len(repr(one)) < 400
    student = teacher.student(teacher.architecture.scaled(layers=0.5))
    assert len(repr(teacher)) + len(repr(student)) < 300
    assert "students on the front of 9 trials" in repr(front)


def test_markup_and_escape_codes_are_text_in_a_table() -> None:
    front = replace(drawn([LATENCY], [(40.0,), (9.0,)]), name=MARKUP)
    odd = replace(front.trials[1], architecture={**front.trials[1].architecture}, reason=MARKUP)
    for page in (front._repr_html_(), odd._repr_html_()):
        assert "<b>x" not in page
        assert "<b>x</b>\\x1b[31m" in Tags(page).text
    assert "\x1b" not in repr(front) + repr(ChosenStudent(odd, front, MARKUP))
