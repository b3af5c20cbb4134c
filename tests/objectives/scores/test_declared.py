"""A ready-made score is a score: read from any data, named, pickled, and known by its content."""

import csv
import json
from importlib import util
from pathlib import Path
from typing import Any

import datasets
import pytest

from protege.objectives import Score, scores
from protege.objectives.machine.pickling import read_pickle, write_pickle
from protege.search.session.identity import document
from protege.spaces import BadInput
from tests.objectives.scores.students import Row, result, sentences, student_of
from tests.tiny import CASES

ROWS: list[Row] = [
    {"text": one, "label": number % 3, "stars": number / 2}
    for number, one in enumerate(sentences(0, 12))
]


def files(folder: Path) -> list[Path]:
    """The rows in a file of every kind."""
    (folder / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    lines = "\n".join(map(json.dumps, ROWS))
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    for name, apart in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(ROWS[0]), delimiter=apart)
            table.writeheader()
            table.writerows(ROWS)
    datasets.Dataset.from_list(ROWS).to_parquet(str(folder / "rows.parquet"))
    return [folder / f"rows.{kind}" for kind in ("json", "jsonl", "csv", "tsv", "parquet")]


def test_data_may_be_a_file_a_dataset_or_records(tmp_path: Path) -> None:
    student = student_of("bert-texts")
    expected = result(scores.accuracy(ROWS), student)
    dataset = datasets.Dataset.from_list(ROWS)
    for data in (*files(tmp_path), dataset, dataset.to_iterable_dataset(), iter(ROWS)):
        assert result(scores.accuracy(data), student) == expected


def test_numbers_of_a_table_are_read_as_numbers(tmp_path: Path) -> None:
    for path in files(tmp_path):
        function: Any = scores.pearson(path, label="stars").function
        assert function.table.numbers("label").tolist() == [row["stars"] for row in ROWS]


MISSING: list[tuple[Any, str]] = [
    ([{"text": "w1"}], "row 0: no column 'label'; there are: text"),
    ([{"text": "w1", "label": None}], "row 0, column 'label': no value"),
    (["w1"], "row 0: expected values by column; found 'w1'"),
    ([], r"\[\]: empty; expected rows with text, label"),
    ({"train": [], "test": []}, r"several datasets, train, test; expected one of them"),
]


@pytest.mark.parametrize(("data", "message"), MISSING)
def test_what_is_missing_is_told_with_its_place(data: Any, message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}"):
        scores.accuracy(data)


def test_a_line_of_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "w1", "label": 1}\n{"text": "w2"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"rows\.jsonl, line 2: no column 'label'; there are: text$"):
        scores.accuracy(path)


def test_options_are_those_of_a_score() -> None:
    given = scores.accuracy(
        ROWS, name="reviews", limit=0.8, at_rungs=True, timeout_s=9.0, unseen=ROWS[:5]
    )
    assert (given.name, given.limit, given.at_rungs, given.timeout_s) == ("reviews", 0.8, True, 9)
    unseen: Any = given.unseen
    assert len(unseen.table) == 5


def test_the_identity_follows_content_and_settings() -> None:
    plain = document(scores.accuracy(ROWS))
    assert plain["function"]["kind"] == "Accuracy"
    assert document(scores.accuracy(iter(ROWS), limit=0.5, unseen=ROWS)) == plain
    assert document(scores.accuracy(ROWS[:-1])) != plain
    assert document(scores.accuracy(ROWS, text="text", label="stars")) != plain
    teacher = CASES["bert-sentences"].teacher()
    queries, documents = [{"query": "w1", "relevant": 0}], [{"id": n, "text": "w1"} for n in (0, 1)]
    asymmetric = scores.ndcg(queries, documents, documents_by=teacher)
    by = document(asymmetric)["function"]["documents_by"]
    assert by == {"kind": "Teacher", "fingerprint": teacher.fingerprint}


def test_other_processes_get_them(tmp_path: Path) -> None:
    teacher = CASES["bert-sentences"].teacher()
    queries = [{"query": "w1", "relevant": 0}]
    documents = [{"id": n, "text": f"w{n}"} for n in range(5)]
    student = teacher.student(teacher.architecture)
    for score in (
        scores.ndcg(queries, documents, documents_by=teacher),
        scores.spearman(
            [{"sentence1": "w1", "sentence2": f"w{n}", "score": n} for n in range(2, 9)]
        ),
    ):
        write_pickle(score, tmp_path / "score.pt", "it", "mend it")
        again: Score = read_pickle(tmp_path / "score.pt")
        assert result(again, student) == result(score, student)


def test_a_library_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protege.objectives.scores.metric.find_spec", lambda _: None)
    assert util.find_spec("seqeval") is not None
    for make, library in (
        (scores.token_f1, "seqeval"),
        (scores.macro_f1, "scikit-learn"),
        (scores.word_error_rate, "jiwer"),
        (scores.rouge_l, "rouge-score"),
        (scores.exact_match, "torchmetrics"),
    ):
        made: Any = make
        message = rf'^this score needs {library}: pip install "protege\[scores\]"$'
        with pytest.raises(BadInput, match=message):
            made(ROWS)
