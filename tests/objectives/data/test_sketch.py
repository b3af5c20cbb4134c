from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from protege.objectives.data import Example, Picture, one
from protege.objectives.data.sketch import CAPACITY, Sketch, survey

TEXTS = st.lists(st.text("abcd", min_size=1, max_size=4), max_size=60)


def size(example: Example) -> int:
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
    sketch = Sketch.of(examples(texts), room, size)
    expected, filled = [], 0
    for example in distinct(texts):
        filled += size(example)
        if filled > room:
            break
        expected.append(example)
    assert sketch.examples() == expected


@given(texts=TEXTS.flatmap(lambda texts: st.tuples(st.just(texts), st.permutations(texts))))
def test_the_order_of_the_stream_changes_nothing(texts: tuple[list[str], list[str]]) -> None:
    one_way, other_way = (survey(Example(text) for text in order) for order in texts)
    assert one_way.fingerprint == other_way.fingerprint
    kept, kept_too = (
        Sketch.of((Example(text) for text in order), 20, size).examples() for order in texts
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
    assert len({survey(stream).fingerprint for stream in streams}) == len(streams)


def test_labels_are_counted() -> None:
    found = survey([Example("a", 0), Example("b"), Example("c", "")])
    assert (found.examples, found.labels) == (3, 2)


def test_what_is_large_takes_the_room_of_many() -> None:
    large = Picture(bytes(3_000_000), (1000, 1000))
    sketch = survey([Example("a"), Example(large), Example("b" * 5_000, "c" * 2_000)]).sketch
    assert sketch.room == CAPACITY
    assert sketch.filled == 1 + 3000 + 7
