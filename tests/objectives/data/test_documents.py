"""JSON files are read whatever their layout, with one value in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Texts, documents
from protege.spaces import BadInput

ROWS = [{"text": "one"}, {"text": "two"}, {"text": "thr\u00e9e \U0001f600"}]
LAYOUTS = {
    "array": json.dumps(ROWS),
    "indented array": json.dumps(ROWS, indent=4),
    "one object a line": "".join(json.dumps(row) + "\n" for row in ROWS),
    "indented objects": "\n\n".join(json.dumps(row, indent=2) for row in ROWS),
    "objects without space": "".join(map(json.dumps, ROWS)),
    "an array of texts": json.dumps([row["text"] for row in ROWS], indent=1),
    "an array a line": "\r\n".join(json.dumps([row]) for row in ROWS),
}


def write(folder: Path, content: str) -> Path:
    path = folder / "corpus.json"
    path.write_text(content, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chunk", [1, 7, 65_536])
def test_every_layout_holds_the_same(
    tmp_path: Path, layout: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "CHUNK", chunk)
    texts = Texts.from_file(write(tmp_path, LAYOUTS[layout]))
    assert texts.texts == tuple(row["text"] for row in ROWS)
    assert list(texts) == list(texts)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    extras=st.lists(VALUES, max_size=4), indent=st.sampled_from([None, 0, 2]), array=st.booleans()
)
def test_whatever_else_an_object_holds_is_passed_over(
    extras: list[Any],
    indent: int | None,
    array: bool,  # noqa: FBT001
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = [{"more": extra, "text": f"text {at}"} for at, extra in enumerate([1, 2, *extras])]
    written = [json.dumps(row, indent=indent) for row in rows]
    content = f"[{','.join(written)}]" if array else "\n".join(written)
    texts = Texts.from_file(write(tmp_path_factory.mktemp("json"), content))
    assert texts.texts == tuple(row["text"] for row in rows)


def test_labels_come_along(tmp_path: Path) -> None:
    rows = [{"said": ["Ada", "wrote"], "tags": [1, 0]}, {"said": ["she"], "tags": ["O"]}]
    texts = Texts.from_file(write(tmp_path, json.dumps(rows)), text="said", label="tags")
    assert list(texts) == [Example(("Ada", "wrote"), (1, 0)), Example(("she",), ("O",))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"text": "a"},\n{"said": "b"}]', "line 3: expected an object with .*; found one with"),
        ('[\n{"text": "a"}\n{"text": "b"}]', "line 3: not JSON .expected ',' or '\\]', found '{'"),
        ('[{"text": "a"},\n{"text": "b"}', "line 2: not JSON .*found the end of the file; the"),
        ('[{"text": "a"},\n{"text": \n"b}', "line 3: not JSON .*Unterminated string"),
        ('{"text": "a"}\n\nso', "line 3: not JSON .*Expecting value"),
        ('[{"text": "a"},]', "line 1: not JSON .*"),
        ("7", "line 1: expected an object with .*; found none"),
        ("[[1, 2]]", "line 1: expected an object with .*; found none"),
        ('{"data": [{"text": "a"}]}', "line 1: expected an object with .*; found one with data"),
        ("[" * 100_000, "line 1: not JSON .maximum recursion"),
    ],
)
def test_what_is_no_row_is_named_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"corpus.json, {message}"):
        Texts.from_file(write(tmp_path, content)).split(1, 1, 1)


def test_a_text_alone_has_no_label(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(["a", "b"]))
    with pytest.raises(BadInput, match="line 1: a text alone, so there is no 'stars'"):
        Texts.from_file(path, label="stars")


def test_a_value_too_long_for_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LONGEST_OBJECT", 1000)
    monkeypatch.setattr(documents, "CHUNK", 100)
    rows = [{"text": "a"}, {"text": "b" * 5000}]
    with pytest.raises(BadInput, match="line 1: 1000 characters or more; expected one object"):
        Texts.from_file(write(tmp_path, json.dumps(rows)))
    many = [{"text": f"text {number}"} for number in range(500)]
    assert len(Texts.from_file(write(tmp_path, json.dumps(many))).texts) == 500


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_half_a_surrogate_pair_is_named_by_its_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"corpus.{kind}"
    path.write_text('{"text": "a"}\n{"text": "b \\ud83d c"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=rf"corpus\.{kind}, line 2: character 2 of 'b .ud83d c' is"):
        Texts.from_file(path)
    path.write_text('{"text": "a"}\n{"text": "b \\ud83d\\ude00 c"}\n', encoding="utf-8")
    assert Texts.from_file(path).texts == ("a", "b \U0001f600 c")
