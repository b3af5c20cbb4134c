from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Picture, Split, one
from protege.objectives.data.split import CAPACITY, RequestedSizes, Sketch, cut, summarized

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=40)
PARTS = st.builds(RequestedSizes, st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))


def example(number: int) -> Example:
    return Example(f"w{number}")


def of(sizes: list[int], asked: RequestedSizes, *, whole: bool = True) -> Split | None:
    return cut([example(number) for number in range(len(sizes))], sizes, asked, whole=whole)


def amounts(split: Split, sizes: list[int]) -> tuple[int, int, int]:
    """What the parts come to."""
    size: Callable[[Example], int] = lambda one: sizes[int(one.text[1:])]  # noqa: E731
    train, selection, held_out = (sum(map(size, part)) for part in split)
    return train, selection, held_out


def whole(sizes: list[int], asked: RequestedSizes) -> Split:
    split = of(sizes, asked)
    assert split is not None
    return split


@pytest.mark.parametrize(
    ("count", "train", "selection", "held_out"),
    [(2, 1, 1, 0), (3, 2, 1, 0), (4, 2, 1, 1), (8, 4, 2, 2), (11, 7, 2, 2), (100, 50, 25, 25)],
)
def test_of_little_data_half_is_learnt_from(
    count: int, train: int, selection: int, held_out: int
) -> None:
    split = whole([1] * count, RequestedSizes(1000, 1000, 1000))
    assert tuple(map(len, split)) == (train, selection, held_out)


def test_of_much_data_every_part_gets_what_it_asked_for() -> None:
    assert tuple(map(len, whole([1] * 100, RequestedSizes(30, 20, 10)))) == (30, 20, 10)


def test_a_part_that_asks_for_nothing_is_empty() -> None:
    assert tuple(map(len, whole([1] * 100, RequestedSizes(30, 0, 0)))) == (30, 0, 0)
    assert tuple(map(len, whole([1] * 2, RequestedSizes(0, 5, 5)))) == (0, 1, 0)


@given(sizes=SIZES, asked=PARTS)
def test_parts_share_nothing_and_leave_no_gap(sizes: list[int], asked: RequestedSizes) -> None:
    split = whole(sizes, asked)
    together = split.held_out + split.selection + split.train
    assert together == [example(number) for number in range(len(together))]
    assert split.train
    assert split.selection
    assert bool(split.held_out) == (len(sizes) >= 4)


@given(sizes=SIZES, asked=PARTS)
def test_no_more_than_a_quarter_is_taken_from_learning(
    sizes: list[int], asked: RequestedSizes
) -> None:
    split = whole(sizes, asked)
    for part, amount in zip(split[1:], amounts(split, sizes)[1:], strict=True):
        assert amount <= sum(sizes) / 4 or len(part) == 1


@given(sizes=SIZES, asked=PARTS)
def test_a_part_is_full_with_its_last_example_and_not_before(
    sizes: list[int], asked: RequestedSizes
) -> None:
    split = whole(sizes, asked)
    for part, amount, wanted in zip(split, amounts(split, sizes), asked, strict=True):
        if part:
            assert amount - sizes[int(part[-1].text[1:])] < wanted


@given(sizes=SIZES, asked=PARTS, longer=st.integers(1, 200))
def test_what_is_held_out_and_selected_on_depends_on_no_length_of_training(
    sizes: list[int], asked: RequestedSizes, longer: int
) -> None:
    assert whole(sizes, asked)[1:] == whole(sizes, asked._replace(train=longer))[1:]


@given(sizes=SIZES, asked=PARTS, known=st.integers(0, 40))
def test_a_part_of_the_data_tells_what_all_of_it_would_or_nothing(
    sizes: list[int], asked: RequestedSizes, known: int
) -> None:
    assert of(sizes[:known], asked, whole=False) in (None, whole(sizes, asked))


def test_data_of_four_times_the_larger_part_tells_enough() -> None:
    assert of([1] * 40, RequestedSizes(10, 5, 10), whole=False) is not None
    assert of([1] * 39, RequestedSizes(10, 5, 10), whole=False) is None


def test_what_is_large_is_left_to_learn_from() -> None:
    split = whole([1, 1, 1, 1000], RequestedSizes(10, 250, 250))
    assert tuple(map(len, split)) == (1, 1, 2)


TEXTS = st.lists(st.text("abcd", min_size=1, max_size=4), max_size=60)


def length(example: Example) -> int:
    return len(example.text)


def distinct(texts: list[str]) -> list[Example]:
    """The first of each identity, smallest first."""
    first: dict[bytes, Example] = {}
    for number, text in enumerate(texts):
        example = Example(text, number)
        first.setdefault(example.identity, example)
    return [first[identity] for identity in sorted(first)]


def examples(texts: list[str]) -> Iterator[Example]:
    return (Example(text, number) for number, text in enumerate(texts))


@given(texts=TEXTS, room=st.integers(0, 30))
def test_the_smallest_identities_are_kept_and_the_first_of_duplicates(
    texts: list[str], room: int
) -> None:
    sketch = Sketch.of(examples(texts), room, one)
    assert sketch.examples() == distinct(texts)[:room]
    assert sketch.complete == (len(distinct(texts)) <= room)


@given(texts=TEXTS, room=st.integers(0, 60))
def test_of_any_size_as_many_are_kept_as_have_room_together(texts: list[str], room: int) -> None:
    sketch = Sketch.of(examples(texts), room, length)
    expected, filled = [], 0
    for example in distinct(texts):
        filled += length(example)
        if filled > room:
            break
        expected.append(example)
    assert sketch.examples() == expected


@given(texts=TEXTS.flatmap(lambda texts: st.tuples(st.just(texts), st.permutations(texts))))
def test_the_order_of_the_stream_changes_nothing(texts: tuple[list[str], list[str]]) -> None:
    one_way, other_way = (summarized(Example(text) for text in order) for order in texts)
    assert one_way.fingerprint == other_way.fingerprint
    kept, kept_too = (
        Sketch.of((Example(text) for text in order), 20, length).examples() for order in texts
    )
    assert kept == kept_too


def test_the_fingerprint_is_of_texts_labels_and_how_often_they_come() -> None:
    streams = [
        [Example("a"), Example("b")],
        [Example("a"), Example("B")],
        [Example("ab"), Example("")],
        [Example("a", 0), Example("b", 1)],
        [Example("a", 1), Example("b", 0)],
        [Example("a", "0"), Example("b", "1")],
        [Example("a"), Example("b"), Example("b")],
        [Example("a"), Example("b"), Example("b"), Example("b")],
    ]
    assert len({summarized(stream).fingerprint for stream in streams}) == len(streams)


def test_labels_are_counted() -> None:
    found = summarized([Example("a", 0), Example("b"), Example("c", "")])
    assert (found.examples, found.labels) == (3, 2)


def test_what_is_large_takes_the_room_of_many() -> None:
    large = Picture(bytes(3_000_000), (1000, 1000))
    sketch = summarized([Example("a"), Example(large), Example("b" * 5_000, "c" * 2_000)]).sketch
    assert sketch.room == CAPACITY
    assert sketch.filled == 1 + 3000 + 7
