import csv
import io
import json
import pickle
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as parquet_files

from protege.objectives.data import Example, Texts
from protege.objectives.data.files import LONGEST, File
from protege.objectives.data.records import Columns
from protege.spaces import BadInput


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def table(rows: Iterable[Iterable[Any]], separator: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows(rows)
    return file.getvalue()


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    parquet_files.write_table(arrow.table(columns), path)
    return path


def test_each_line_is_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.txt", "one\r\n\n  \ntwo with spaces\nthree\u2028still three")
    assert Texts.from_file(path).texts == ("one", "two with spaces", "three\u2028still three")


@pytest.mark.parametrize("name", ["corpus.txt", "corpus.csv", "corpus.jsonl", "corpus.json"])
def test_the_mark_that_windows_puts_first_is_no_text(tmp_path: Path, name: str) -> None:
    content = {
        "corpus.txt": "one\ntwo\n",
        "corpus.csv": "text\none\ntwo\n",
        "corpus.jsonl": jsonl({"text": "one"}, {"text": "two"}),
        "corpus.json": json.dumps([{"text": "one"}, {"text": "two"}]),
    }[name]
    assert Texts.from_file(write(tmp_path, name, "\ufeff" + content)).texts == ("one", "two")


def test_a_line_without_end_is_read_in_pieces(tmp_path: Path) -> None:
    whole = "".join(f"{number} " for number in range(400_000))
    texts = Texts.from_file(write(tmp_path, "corpus.txt", whole)).texts
    assert "".join(texts) == whole
    assert max(map(len, texts)) == LONGEST


def test_lines_of_text_have_no_columns(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"corpus\.txt: .* no column 'stars'; expected a file in"):
        Texts.from_file(write(tmp_path, "corpus.txt", "a\nb\n"), label="stars")


def test_json_lines_carry_labels_by_number_or_name(tmp_path: Path) -> None:
    lines = jsonl({"text": "one", "label": 1}, {"text": "two\u2028lines", "label": "good"})
    path = write(tmp_path, "corpus.jsonl", lines.replace("\\u2028", "\u2028"))
    assert Texts.from_file(path) == Texts.of(["one", "two\u2028lines"], [1, "good"])


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.ndjson", "CORPUS.JSONL"])
def test_json_lines_may_have_no_labels(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, jsonl({"text": "one"}, {"text": "two", "id": 7}))
    assert not Texts.from_file(path).labelled


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ("[7]", 'expected an object with "text"'),
        ('{"label": 1, "id": 2}', 'expected an object with "text", .*; found one with label, id'),
        ('{"text": null}', 'expected an object with "text", a string'),
        ('{"text": ["a", 1]}', r"expected a text, or a list of words; found \['a', 1\]"),
        ('{"text": "b", "label": {}}', "expected a label that is a number or a name"),
        ('{"text": "b", "label": NaN}', "expected a label .*; found nan"),
        ('{"text": "b", "label": [[1]]}', r"expected a label .*; found \[\[1\]\]"),
        ('{"text": ["b"], "label": [1, 2]}', "1 words with 2 labels; expected one per word"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number_in_the_file(
    tmp_path: Path, line: str, message: str
) -> None:
    path = write(tmp_path, "corpus.jsonl", f'{{"text": "a"}}\n\n\n{line}\n')
    with pytest.raises(BadInput, match=f"corpus.jsonl, line 4: {message}"):
        Texts.from_file(path)


def test_a_bad_line_far_down_is_found_when_it_is_read(tmp_path: Path) -> None:
    lines = jsonl(*({"text": f"text {number}"} for number in range(100)))
    texts = Texts.from_file(write(tmp_path, "corpus.jsonl", lines + "{broken"))
    with pytest.raises(BadInput, match=r"corpus\.jsonl, line 101: not JSON"):
        texts.split(10, 1, 1)


def test_a_line_of_json_too_long_for_memory_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.jsonl", json.dumps([{"text": str(n)} for n in range(1000)]))
    file = File(path, Columns("text"), "jsonl", longest_object=1000)
    with pytest.raises(BadInput, match="line 1: 1000 characters or more; expected one object"):
        list(file())


@pytest.mark.parametrize("null", [{"text": "b"}, {"text": "b", "label": None}])
def test_labels_are_for_all_lines_or_none(tmp_path: Path, null: dict[str, Any]) -> None:
    path = write(tmp_path, "corpus.jsonl", jsonl({"text": "a", "label": 1}, null))
    with pytest.raises(BadInput, match=r"jsonl: 1 of 2 texts have a label; expected all or none"):
        Texts.from_file(path).split(1, 1, 1)


def test_a_label_that_was_named_is_in_every_line(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.jsonl", jsonl({"text": "a", "stars": 1}, {"text": "b", "id": 1}))
    with pytest.raises(BadInput, match="line 2: no column 'stars'; there are: text, id"):
        Texts.from_file(path, label="stars")


def stored(path: Path, columns: dict[str, list[Any]]) -> Path:
    """The columns in a file of the format that its suffix says."""
    if path.suffix == ".parquet":
        return parquet(path, columns)
    rows = list(zip(*columns.values(), strict=True))
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    if path.suffix == ".json":
        content = json.dumps(records, indent=2)
    elif path.suffix == ".jsonl":
        content = jsonl(*records)
    else:
        content = table([columns, *rows], "\t" if path.suffix == ".tsv" else ",")
    return write(path.parent, path.name, content)


@pytest.fixture(params=["json", "jsonl", "csv", "tsv", "parquet"])
def suffix(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_every_format_holds_the_same(tmp_path: Path, suffix: str) -> None:
    columns: dict[str, list[Any]] = {
        "id": [7, 8, 9],
        "said": ["one, two", 'a "quoted"\ttext', "líne\nline"],
        "stars": [1, -1, 0],
    }
    path = stored(tmp_path / f"corpus.{suffix}", columns)
    quoted = True if suffix == "tsv" else None
    texts = Texts.from_file(path, text="said", label="stars", quoted=quoted)
    assert list(texts) == [
        Example(text, label) for text, label in zip(columns["said"], columns["stars"], strict=True)
    ]
    assert texts == Texts.of(columns["said"], columns["stars"])


def test_the_column_of_labels_need_not_be_named(tmp_path: Path, suffix: str) -> None:
    columns = {"text": ["a", "b"], "label": ["good", "bad"]}
    path = stored(tmp_path / f"corpus.{suffix}", columns)
    assert [example.label for example in Texts.from_file(path)] == ["good", "bad"]
    assert not Texts.from_file(stored(path, {"text": ["a", "b"], "x": [1, 2]})).labelled


def test_a_missing_column_is_told_with_those_there_are(tmp_path: Path, suffix: str) -> None:
    path = stored(tmp_path / f"corpus.{suffix}", {"said": ["a", "b"], "stars": [1, 2]})
    with pytest.raises(BadInput, match=f"corpus.{suffix}.*(there are: |with )said, stars"):
        Texts.from_file(path)
    with pytest.raises(BadInput, match="no column 'label'; there are: said, stars"):
        Texts.from_file(path, text="said", label="label")


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_words_have_a_class_each(tmp_path: Path, suffix: str) -> None:
    columns: dict[str, list[Any]] = {"tokens": [["Ada", "wrote"], ["she"]], "tags": [[1, 0], [0]]}
    path = stored(tmp_path / f"corpus.{suffix}", columns)
    assert list(Texts.from_file(path, text="tokens", label="tags")) == [
        Example(("Ada", "wrote"), (1, 0)),
        Example(("she",), (0,)),
    ]


FIELDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(rows=st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=8))
def test_what_is_written_into_a_table_is_read_from_it(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = [("first", "1"), ("second", "2"), *rows]
    content = table([["text", "label"], *written])
    path = write(tmp_path_factory.mktemp("table"), "corpus.csv", content)
    found = [(example.text, str(example.label)) for example in Texts.from_file(path)]
    assert found == [(text, label) for text, label in written if text.strip()]


@pytest.mark.parametrize(
    ("field", "label"),
    [("0", 0), ("12", 12), ("-3", -3), ("007", "007"), ("1.0", "1.0"), ("+1", "+1"), ("-0", "-0")],
)
def test_a_label_of_digits_is_a_number(tmp_path: Path, field: str, label: int | str) -> None:
    path = write(tmp_path, "corpus.csv", f"text,label\na,{field}\nb,{field}\n")
    assert {example.label for example in Texts.from_file(path)} == {label}


def test_digits_beyond_counting_are_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.csv", f"text,label\na,{'9' * 5000}\nb,x\n")
    assert next(iter(Texts.from_file(path))).label == "9" * 5000


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b", "1 fields; expected 2: text, label"),
        ("b,1,2,3", "4 fields; expected 2: text, label"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, "corpus.csv", f'text,label\n"a\na",1\n{row}\n')
    with pytest.raises(BadInput, match=rf"corpus\.csv, line 4: {message}"):
        Texts.from_file(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"b,1', r"not a row of a table \(unexpected end"),
        ('"b"c,1', r"not a row of a table \(',' expected after"),
        ("b" * (LONGEST + 1) + ",1", r"not a row of a table \(field larger than"),
    ],
    ids=["no closing quote", "more after it", "too long"],
)
def test_what_is_no_row_is_named_by_the_line_above(tmp_path: Path, row: str, message: str) -> None:
    path = write(tmp_path, "corpus.csv", f'text,label\n"a\na",1\n{row}\n')
    with pytest.raises(BadInput, match=rf"corpus\.csv, below line 3: {message}"):
        Texts.from_file(path)


def test_a_long_field_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.csv", f"text\n{'a' * 200_000}\nb\n")
    assert list(map(len, Texts.from_file(path).texts)) == [200_000, 1]


def test_a_bad_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    path = parquet(tmp_path / "corpus.parquet", {"text": ["a", None, "b"]})
    with pytest.raises(BadInput, match=r"parquet, row 1: expected a text, .*; found None"):
        Texts.from_file(path)


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"corpus\.parquet: not a Parquet file"):
        Texts.from_file(write(tmp_path, "corpus.parquet", "just text, and enough of it"))


def test_a_broken_file_of_parquet_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = parquet(tmp_path / "corpus.parquet", {"text": ["a", "b"]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"^[^\n]*corpus\.parquet: not a Parquet file[^\n]*$"):
        Texts.from_file(path)
    assert capfd.readouterr() == ("", "")


def test_parquet_is_read_in_place_and_no_server_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[1] *"
    folder.mkdir()
    held = [f"text {number}" for number in range(2500)]
    path = parquet(folder / "a{}?.parquet", {"text": held, "other": [b"x"] * 2500})
    monkeypatch.chdir(folder)
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    texts = Texts.from_file(path.name)
    assert texts.texts == tuple(held)
    assert pickle.loads(pickle.dumps(texts)) == texts
    assert [*tmp_path.rglob("*.*")] == [path]
    assert asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["no.txt", "no.json", "no.jsonl", "no.tsv", "no.parquet", "no"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=rf"{name}: cannot be read \(.*No such file"):
        Texts.from_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("a.txt", ""), ("a.txt", "\n \n\t\n"), ("a.jsonl", "\n\n"), ("a.csv", "text,label\n")),
        *(("a.json", ""), ("a.json", " \n"), ("a.json", "[]"), ("a.json", "[\n]\n[ ]")),
        ("a.tsv", "text\tlabel\r\n"),
    ],
)
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(BadInput, match=f"{name}: empty; expected one text per line"):
        Texts.from_file(write(tmp_path, name, content))


def test_an_empty_file_of_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="empty; expected one text per line, or per row"):
        Texts.from_file(parquet(tmp_path / "a.parquet", {"text": []}))


@pytest.mark.parametrize("start", ["", "\ufeff", "\u00e9 line\n" * 100_000])
def test_a_file_that_is_not_utf8_is_told_how_to_become_so(tmp_path: Path, start: str) -> None:
    before = start.encode()
    path = write(tmp_path, "corpus.txt", before + "naïve\n".encode("latin-1"))
    message = rf"not UTF-8 \(byte {len(before) + 2} is 0xef\); .*iconv"
    with pytest.raises(BadInput, match=message):
        Texts.from_file(path).split(1, 1, 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("corpus.md", "the suffix '.md' is unknown"),
        ("corpus.jsonl.gz", "the suffix '.gz' is unknown"),
        ("corpus.XLSX", "the suffix '.XLSX' is unknown"),
        ("corpus", "it has no suffix"),
    ],
)
def test_a_file_of_an_unknown_suffix_is_refused(tmp_path: Path, name: str, found: str) -> None:
    path = write(tmp_path, name, "one\ntwo\n")
    with pytest.raises(BadInput, match=rf"{name}: {found}; expected one of \.txt, .*kind='lines'"):
        Texts.from_file(path)
    assert Texts.from_file(path, kind="lines").texts == ("one", "two")


def test_a_folder_is_no_file_of_texts(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a folder; expected a file of texts"):
        Texts.from_file(tmp_path)


def test_suffixes_may_be_in_capitals(tmp_path: Path, suffix: str) -> None:
    path = stored(tmp_path / f"corpus.{suffix}", {"text": ["a", "b"]})
    texts = Texts.from_file(path.rename(tmp_path / f"CORPUS.{suffix.upper()}"))
    assert texts.texts == ("a", "b")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.txt", "one\ntwo\n")
    with pytest.raises(BadInput, match="kind='xml': expected one of lines, json, jsonl, csv"):
        Texts.from_file(path, kind="xml")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"quoted=True is for \.csv and \.tsv"):
        Texts.from_file(path, quoted=True)


# what the tab-separated files of GLUE and of Tatoeba have in them
QUOTED = 'text\tlabel\n"Stop!\t0\nhe said\t1\nso"\t0\n5" disks\t1\n"a" and "b"\t0\nlast\t1\n'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quotes_of_a_tsv_are_part_of_its_texts(tmp_path: Path, end: str) -> None:
    path = write(tmp_path, "corpus.tsv", QUOTED.replace("\n", end))
    assert [(one.text, one.label) for one in Texts.from_file(path)] == [
        *(('"Stop!', 0), ("he said", 1), ('so"', 0), ('5" disks', 1)),
        *(('"a" and "b"', 0), ("last", 1)),
    ]


PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@given(rows=st.lists(PLAIN, min_size=2, max_size=8, unique=True))
def test_each_line_of_a_tsv_is_a_row(
    rows: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = ["first", "second", *rows]
    path = write(tmp_path_factory.mktemp("table"), "corpus.tsv", "\n".join(["text", *rows]) + "\n")
    assert [one.text for one in Texts.from_file(path)] == [row for row in rows if row.strip()]


def test_a_tsv_in_quotes_says_how_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.tsv", table([["text", "label"], ["a\tb", 1], ["c", 0]], "\t"))
    with pytest.raises(BadInput, match=r"line 2: 3 fields; expected 2: .*, give quoted=True"):
        Texts.from_file(path)
    assert Texts.from_file(path, quoted=True).texts == ("a\tb", "c")


def test_a_csv_whose_quotes_are_text_says_how_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.csv", 'text\n"Stop" he said\nlast\n')
    with pytest.raises(BadInput, match=r"not a row of a table .*part of the texts, .*quoted=False"):
        Texts.from_file(path)
    assert Texts.from_file(path, quoted=False).texts == ('"Stop" he said', "last")


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.csv", "text,label,text\na,1,b\nc,0,d\n")
    with pytest.raises(BadInput, match=r"corpus\.csv: the header names 'text' twice"):
        Texts.from_file(path)


def test_the_names_of_classes_are_read_from_a_file_of_datasets(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    made.to_parquet(tmp_path / "corpus.parquet")
    assert Texts.from_file(tmp_path / "corpus.parquet").classes == ("bad", "good")
    assert Texts.from_file(parquet(tmp_path / "other.parquet", {"text": ["a", "b"]})).classes == ()


def test_a_text_of_parquet_that_is_not_utf8_is_named_by_its_row(tmp_path: Path) -> None:
    held = arrow.array([b"one", b"two", b"na\xefve", b"four"])
    texts = arrow.Array.from_buffers(arrow.string(), 4, held.buffers())
    with pytest.raises(BadInput, match=r"corpus\.parquet, row 2: a text that is not UTF-8"):
        Texts.from_file(parquet(tmp_path / "corpus.parquet", {"text": texts})).split(1, 1, 1)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_pairs_come_from_two_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pairs.{suffix}"
    lines = ["question,context,label", "who,Ada wrote,Ada", "what,a note,note"]
    if suffix == "jsonl":
        names = lines[0].split(",")
        lines = [json.dumps(dict(zip(names, row.split(","), strict=True))) for row in lines[1:]]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = list(Texts.from_file(path, "question", pair="context"))
    assert found == [Example(("who", "Ada wrote"), "Ada"), Example(("what", "a note"), "note")]
    with pytest.raises(BadInput, match=r"passage|found \['who', None\]"):
        list(Texts.from_file(path, "question", pair="passage"))


def test_lines_have_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nb\n")
    with pytest.raises(BadInput, match="each line is a text, so there is no column 'context'"):
        Texts.from_file(tmp_path / "a.txt", pair="context")
