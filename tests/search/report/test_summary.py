"""The first screen names the model and its conditions, and says the result in a sentence."""

from dataclasses import replace

import pytest

from protege.objectives import Measurement
from protege.search import Front
from protege.search.report import page as report
from protege.search.report import summary, tables
from tests.search.report.drawn import ABOUT, RETENTION, classic, drawn, objective
from tests.search.report.pages import Page


def said(front: Front) -> str:
    return summary.headline(front, front.knee().trial)


def counted() -> Front:
    """A study that counted parameters: the teacher has 40 million, trial n has 10 n million."""
    front = classic()
    sizes = [40_000_000, *(10_000_000 * number for number in range(1, 5))]
    pairs = zip(front.trials, sizes, strict=True)
    return replace(front, trials=tuple(replace(t, parameters=size) for t, size in pairs))


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ({"source": "org/teacher"}, "org/teacher"),
        ({"source": "/a/site-packages/minilm/model"}, "minilm"),
        ({"source": "/home/me/minilm"}, "minilm"),
        ({"source": "/c/models--org--name/snapshots/0f3a"}, "org/name"),
        ({"source": "/home/me/minilm", "hub_id": "org/minilm"}, "org/minilm"),
        ({}, "an unrecorded teacher"),
    ],
)
def test_the_title_is_the_model_and_no_private_path(teacher: dict[str, str], name: str) -> None:
    assert summary.model_name(teacher) == name
    page = Page(report.page(classic(about=ABOUT | {"teacher": {**teacher, "key": "key-0"}})))
    source = teacher.get("source", "")
    assert not source.startswith("/") or source not in page.text


def test_one_line_says_how_it_was_measured() -> None:
    about = ABOUT | {
        "processor": "Turing-7",
        "date": "2026-05-04",
        "workloads": {"latency_ms": {"batch_size": 2, "prompt_tokens": 64, "new_tokens": 8}},
    }
    data = {"kind": "Texts", "fingerprint": "0123456789abcdef"}
    front = classic(about=about, identity={"distillation": {"data": data, "steps": 60}})
    slow = Measurement(40.0, 0.4, (), {"target": "eager, 1 thread"})
    first = replace(front.trials[0], measurements={**front.trials[0].measurements})
    first = replace(first, measurements={**first.measurements, "latency_ms": slow})
    front = replace(front, trials=(first, *front.trials[1:]))
    assert summary.conditions(front) == (
        "Turing-7 · eager, 1 thread · batch 2, 64 tokens, 8 new · 60 steps on Texts 01234567"
        " · 2026-05-04 · study toy"
    )
    assert summary.conditions(classic()) == "study toy"
    seeing = replace(front, about=about | {"teacher": {"task": "image-classification"}})
    assert "1 thread · batch 2 · 60 steps" in summary.conditions(seeing)


def test_a_sentence_says_what_the_student_at_the_knee_gains_and_keeps() -> None:
    assert said(classic()) == (
        "The student at the knee of the front, t2, is 2.0 times faster at 80% of the teacher's "
        "retention."
    )
    assert said(counted()).endswith("retention; it has 20.0 M parameters, 50% of the teacher's.")


def test_the_sentence_is_of_the_study_s_own_objectives() -> None:
    rows = [(90.0, 1.0), (10.0, 0.1), (30.0, 0.8)]
    front = drawn([objective("memory_mb"), RETENTION], rows)
    assert said(front) == (
        "The student at the knee of the front, t2, is at 33% of the teacher's Memory (MB) and 80% "
        "of the teacher's retention."
    )
    unknown = replace(front, about={})
    assert " is at Memory (MB) 30.0 and retention 0.800" in said(unknown)
    alone = drawn([objective("memory_mb"), RETENTION], rows[:1])
    assert summary.headline(alone, None) == "No student is on the front yet."


def test_the_table_counts_parameters_where_the_study_did() -> None:
    table = tables.students(counted())
    titles = [column.title for column in table.columns]
    at = titles.index("Parameters")
    assert titles[at + 1] == "Of the teacher"
    assert [(row[0].text, row[at].text, row[at + 1].text) for row in table.rows] == [
        ("4", "40.0 M", "100%"),
        ("2", "20.0 M", "50%"),
        ("3", "30.0 M", "75%"),
        ("0", "40.0 M", "100%"),
    ]
    assert "Parameters" not in [column.title for column in tables.students(classic()).columns]
