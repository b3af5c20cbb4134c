import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Texts
from protege.spaces import BadInput


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_each_line_is_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.txt", "one\r\n\n  \ntwo with spaces\nthree\u2028still three")
    assert Texts.from_file(path).texts == ("one", "two with spaces", "three\u2028still three")


def test_of_a_repeated_text_the_first_label_is_kept() -> None:
    texts = Texts.of(["a", "b", "a", " ", "b", "c"], [1, 2, 3, 4, 5, 6])
    assert texts.texts == ("a", "b", "c")
    assert texts.labels == (1, 2, 6)


@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "b", "c", " ", ""]), st.integers()), min_size=1)
)
def test_every_text_keeps_the_label_it_first_had(pairs: list[tuple[str, int]]) -> None:
    first: dict[str, int] = {}
    for text, label in pairs:
        if text.strip():
            first.setdefault(text, label)
    if len(first) < 2:
        return
    texts = Texts.of(*zip(*pairs, strict=True))
    assert dict(zip(texts.texts, texts.labels or (), strict=True)) == first
    assert texts.texts == tuple(first)


def test_json_lines_carry_labels_by_number_or_name(tmp_path: Path) -> None:
    lines = jsonl({"text": "one", "label": 1}, {"text": "two\u2028lines", "label": "good"})
    path = write(tmp_path, "corpus.jsonl", lines.replace("\\u2028", "\u2028"))
    texts = Texts.from_file(path)
    assert texts == Texts(("one", "two\u2028lines"), (1, "good"))


def test_json_lines_may_have_no_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.jsonl", jsonl({"text": "one"}, {"text": "two", "id": 7}))
    assert Texts.from_file(path).labels is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ('"just a string"', 'expected an object with "text"'),
        ('{"label": 1}', 'expected an object with "text"'),
        ('{"text": null}', 'expected an object with "text", a string'),
        ('{"text": "b", "label": [1]}', "expected a label that is a number or a name"),
    ],
)
def test_a_bad_line_is_named_by_its_number_in_the_file(
    tmp_path: Path, line: str, message: str
) -> None:
    path = write(tmp_path, "corpus.jsonl", f'{{"text": "a"}}\n\n\n{line}\n')
    with pytest.raises(BadInput, match=f"corpus.jsonl, line 4: {message}"):
        Texts.from_file(path)


def test_labels_are_for_all_lines_or_none(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.jsonl", jsonl({"text": "a", "label": 1}, {"text": "b"}))
    with pytest.raises(BadInput, match="1 of 2 lines have a label; expected all or none"):
        Texts.from_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.txt: cannot be read \(No such file"):
        Texts.from_file(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadInput, match="empty; expected one text a line"):
        Texts.from_file(write(tmp_path, "corpus.txt", content))


def test_a_file_that_is_not_utf8_is_told_how_to_become_so(tmp_path: Path) -> None:
    path = write(tmp_path, "corpus.txt", "naïve\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"not UTF-8 \(byte 2 is 0xef\); .*iconv"):
        Texts.from_file(path)


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "one", " "]])
def test_one_text_is_too_few(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="expected at least two different ones, none of them blank"):
        Texts.of(texts)


def test_there_are_as_many_labels_as_texts() -> None:
    with pytest.raises(BadInput, match="2 texts with 1 labels; expected as many"):
        Texts.of(["a", "b"], [1])


def test_the_fingerprint_is_of_texts_labels_and_order() -> None:
    given = [
        Texts.of(["a", "b"]),
        Texts.of(["b", "a"]),
        Texts.of(["a", "b"], [0, 1]),
        Texts.of(["a", "b"], [1, 1]),
        Texts.of(["ab", " c"]),
        Texts.of(["a", "b c"]),
    ]
    assert len({texts.fingerprint for texts in given}) == len(given)
    assert Texts.of(["a", "b", "a"]).fingerprint == given[0].fingerprint


def test_the_order_depends_on_the_number_of_texts_alone() -> None:
    one, other = Texts.of(map(str, range(50))), Texts.of(map(str, range(100, 150)))
    assert one.order() == other.order()
    assert sorted(one.order()) == list(range(50))
    assert one.order() != list(range(50))


def test_a_repr_is_short() -> None:
    assert repr(Texts.of(["a", "b"])).startswith("Texts(2 texts, ")
