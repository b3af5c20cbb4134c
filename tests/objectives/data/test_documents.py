"""JSON files are read whatever their layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Texts
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
def test_every_layout_holds_the_same(tmp_path: Path, layout: str) -> None:
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
        ('[{"text": "a"},\n{"said": "b"}]', ", item 2: expected an object with .*; found one with"),
        ('[\n{"text": "a"}\n{"text": "b"}]', r": not JSON .*',' delimiter: line 3 column 1"),
        ('[{"text": "a"},\n{"text": "b"}', r": not JSON .*',' delimiter: line 2"),
        ('[{"text": "a"},\n{"text": \n"b}', ": not JSON .*Unterminated string.*: line 3"),
        ('{"text": "a"}\n\nso', ": not JSON .*Expecting value: line 3"),
        ('[{"text": "a"},]', ": not JSON .*line 1"),
        ("7", ", item 1: expected an object with .*; found 7"),
        ("[[1, 2]]", r", item 1: expected an object with .*; found \[1, 2\]"),
        ('{"data": [{"text": "a"}]}', ", item 1: expected an object with .*; found one with data"),
        ("[" * 100_000, ": not JSON .maximum recursion"),
    ],
)
def test_what_is_no_row_is_named_by_its_place(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"corpus.json{message}"):
        Texts.from_file(write(tmp_path, content)).split(1, 1, 1)


def test_a_text_alone_has_no_label(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(["a", "b"]))
    with pytest.raises(BadInput, match=r"item 1: expected an object with .*; found 'a'"):
        Texts.from_file(path, label="stars")


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_half_a_surrogate_pair_is_named_by_its_place(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"corpus.{kind}"
    path.write_text('{"text": "a"}\n{"text": "b \\ud83d c"}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=rf"corpus\.{kind}, \w+ 2: character 2 of 'b .ud83d c' is"):
        Texts.from_file(path)
    path.write_text('{"text": "a"}\n{"text": "b \\ud83d\\ude00 c"}\n', encoding="utf-8")
    assert Texts.from_file(path).texts == ("a", "b \U0001f600 c")
