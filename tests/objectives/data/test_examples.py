import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Examples, Split, Texts
from protege.objectives.data.split import CAPACITY, RequestedSizes, cut
from protege.spaces import BadInput


@dataclass(frozen=True)
class Counted:
    """Numbered lines, and how many of them were read in each pass."""

    lines: int
    passes: list[int] = field(default_factory=list)

    def __call__(self) -> Iterator[Example]:
        self.passes.append(0)
        for number in range(self.lines):
            self.passes[-1] += 1
            yield Example(f"line {number} of a long file")


def texts_of(split: Split) -> tuple[list[str], ...]:
    return tuple([example.text for example in part] for part in split)


def size(example: Example) -> int:
    return len(example.text)


LINES = st.lists(st.text("abAB ", max_size=5), min_size=2, max_size=60)
PARTS = st.builds(RequestedSizes, *[st.integers(0, 60)] * 3)


def naive(lines: list[str], asked: RequestedSizes) -> Split | None:
    """Every different text sorted by its identity, then cut."""
    first: dict[bytes, Example] = {}
    for line in lines:
        if line.strip():
            first.setdefault(Example(line).identity, Example(line))
    ordered = [first[identity] for identity in sorted(first)]
    if len(ordered) < 2:
        return None
    return cut(ordered, [size(one) for one in ordered], asked, whole=True)


@given(lines=LINES, asked=PARTS, capacity=st.sampled_from([0, 1, 5, 20, CAPACITY]))
def test_a_split_is_that_of_all_texts_in_the_order_of_their_identities(
    lines: list[str], asked: RequestedSizes, capacity: int
) -> None:
    expected = naive(lines, asked)
    if expected is None:
        return
    assert replace(Texts.of(lines), capacity=capacity).split(*asked, size) == expected


@given(data=LINES.flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines))))
def test_a_split_depends_neither_on_the_order_nor_on_duplicates(
    data: tuple[list[str], list[str]],
) -> None:
    lines, shuffled = ([line.lower() for line in order] for order in data)
    if naive(lines, RequestedSizes(1, 1, 1)) is None:
        return
    one_way, other_way = Texts.of(lines), Texts.of([*shuffled, *shuffled])
    asked = (20, 7, 7)
    identities = [
        [[example.identity for example in part] for part in texts.split(*asked)]
        for texts in (one_way, other_way)
    ]
    assert identities[0] == identities[1]
    assert one_way == Texts.of(shuffled)


def test_no_text_is_in_two_parts_in_whatever_spelling() -> None:
    given = [spelt for n in range(200) for spelt in (f"Text {n}", f"text  {n}", f"TEXT {n} ")]
    split = Texts.of(given).split(1000, 1000, 1000)
    found = [text.lower().split() for part in texts_of(split) for text in part]
    assert sorted(found) == sorted(["text", str(n)] for n in range(200))
    assert tuple(map(len, split)) == (100, 50, 50)


def test_more_data_of_the_same_kind_changes_few_parts() -> None:
    before, after = (
        set(texts_of(Texts.of(map(str, range(count))).split(0, 0, 10))[2]) for count in (1000, 1010)
    )
    assert len(before & after) >= 8


def test_data_is_read_once_for_all_that_is_asked_of_it() -> None:
    source = Counted(2000)
    data = Examples(source)
    assert source.passes == [2]  # a look at its beginning
    assert not data.labelled
    assert data.fingerprint in repr(data)
    data.split(100, 10, 10)
    data.split(1900, 10, 10, size)
    assert source.passes == [2, 2000]


def test_data_is_read_again_where_more_is_asked_than_was_kept() -> None:
    source = Counted(2000)
    data = Examples(source, capacity=50)
    assert list(map(len, data.split(30, 5, 5))) == [30, 5, 5]
    assert source.passes == [2, 2000]
    assert list(map(len, data.split(1000, 100, 100))) == [1000, 100, 100]
    assert list(map(len, data.split(5000, 5000, 5000))) == [1000, 500, 500]
    assert len(source.passes) <= 6


def test_memory_does_not_grow_with_the_stream() -> None:
    peaks = []
    for lines in (5_000, 50_000):
        data = Examples(Counted(lines), capacity=500)
        tracemalloc.start()
        data.split(1000, 100, 100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 2_000_000


@pytest.mark.parametrize("lines", [[], ["one"], ["one", "ONE", " "]])
def test_one_text_is_too_few(lines: list[str]) -> None:
    with pytest.raises(
        BadInput, match=r"\d texts: expected at least two that are distinct and not blank"
    ):
        Texts.of(lines)


@pytest.mark.parametrize("ask", ["fingerprint", "labelled", "split"])
def test_labels_are_for_all_or_none(ask: str) -> None:
    data = Texts.of(["a", "b", "c"], [1, None, 2])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="2 of 3 texts have a label; expected all or none"):
        data.split(1, 1, 1) if ask == "split" else getattr(data, ask)


def test_labels_stay_with_their_texts() -> None:
    data = Texts.of(map(str, range(100)), range(100))
    assert data.labelled
    for example in [example for part in data.split(50, 20, 20) for example in part]:
        assert example.text == str(example.label)


def test_data_is_known_by_what_it_holds() -> None:
    data = Texts.of(["a", "b"])
    assert data == Texts.of(["b", "a"])
    assert hash(data) == hash(Texts.of(["b", "a"]))
    others: list[Any] = [Texts.of(["a", "c"]), Texts.of(["a", "b"], [0, 1]), "a"]
    assert data not in others
    assert repr(data) == f"Texts({data.fingerprint})"
    assert pickle.loads(pickle.dumps(data)) == data
