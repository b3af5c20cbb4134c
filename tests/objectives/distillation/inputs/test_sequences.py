"""Batches hold every sequence, in any order, and each row knows where its answer is kept."""

from collections.abc import Sequence
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences, tokens_in
from protege.spaces import Unsupported

PAD = 99
STORES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=7),
    min_size=1,
    max_size=12,
)
Scored = list[list[tuple[int, bool]]]


def whole(lengths: list[int]) -> Sequences:
    """Sequences that are one row each; each holds nothing but its own number."""
    ids = [[number] * length for number, length in enumerate(lengths)]
    return Sequences.of(ids, None, range(len(lengths)), PAD)


def marked(given: Scored) -> Sequences:
    """Sequences of scored positions; the label of a row is the id that stands there."""
    ids = [[token for token, _ in one] for one in given]
    scored = [[score for _, score in one] for one in given]
    return Sequences.of(ids, scored, [t for one in given for t, score in one if score], PAD)


def numbers(batch: Batch) -> list[int]:
    return [int(number) for number in batch.inputs["input_ids"][:, 0]]


def epoch(sequences: Sequences, size: int, seed: int, number: int = 0) -> list[Batch]:
    count = -(-len(sequences) // size)
    batches = islice(sequences.shuffled(size, seed), number * count, (number + 1) * count)
    return [batch for (batch,) in batches]


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    size=st.integers(1, 7),
    seed=st.integers(0, 5),
)
def test_every_sequence_comes_once_an_epoch(lengths: list[int], size: int, seed: int) -> None:
    sequences = whole(lengths)
    for number in range(2):
        seen = [one for batch in epoch(sequences, size, seed, number) for one in numbers(batch)]
        assert sorted(seen) == list(range(len(lengths)))
    in_order = [one for batch in sequences.in_order(size) for one in numbers(batch)]
    assert sorted(in_order) == list(range(len(lengths)))


def test_the_same_seed_gives_the_same_batches_and_another_gives_others() -> None:
    sequences = whole([1 + number % 11 for number in range(64)])
    first, again, other = (epoch(sequences, 8, seed) for seed in (3, 3, 4))
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert not all(same(one, two) for one, two in zip(first, other, strict=True))
    assert not all(same(a, b) for a, b in zip(first, epoch(sequences, 8, 3, 1), strict=True))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.inputs["input_ids"], other.inputs["input_ids"]) and torch.equal(
        one.rows, other.rows
    )


def test_similar_lengths_share_a_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = torch.randint(1, 100, (400,), generator=generator).tolist()
    padded = sum(batch.inputs["input_ids"].numel() for batch in epoch(whole(lengths), 8, 0))
    assert padded < 1.1 * sum(lengths)
    # and still no epoch goes from short to long
    widths = [batch.inputs["input_ids"].shape[1] for batch in epoch(whole(lengths), 8, 0)]
    assert widths not in (sorted(widths), sorted(widths, reverse=True))


@given(store=STORES, size=st.integers(1, 5), seed=st.integers(0, 3))
def test_a_row_looked_up_is_an_answer_about_the_same_ids(
    store: Scored, size: int, seed: int
) -> None:
    # targets kept in one order and replayed in another teach each text another text's answers
    sequences = marked(store)
    kept = sequences.labels
    for batch in (*epoch(sequences, size, seed), *sequences.in_order(size)):
        assert torch.equal(batch.inputs["input_ids"][batch.scored], kept[batch.rows])


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), size=st.integers(1, 5))
def test_of_whole_sequences_the_row_is_the_sequence(lengths: list[int], size: int) -> None:
    for batch in epoch(whole(lengths), size, 0):
        assert batch.rows.tolist() == numbers(batch)
        assert not batch.scored.any()


@given(store=STORES, size=st.integers(1, 5))
def test_a_batch_is_padded_on_the_right_to_its_longest(store: Scored, size: int) -> None:
    for batch in marked(store).in_order(size):
        lengths = batch.mask.sum(1)
        assert batch.inputs["input_ids"].shape[1] == int(lengths.max())
        assert batch.mask.diff(dim=1).le(0).all()
        assert torch.equal(batch.inputs["input_ids"] == PAD, batch.mask == 0)
        assert not (batch.scored & (batch.mask == 0)).any()


@given(store=STORES, data=st.data())
def test_the_first_sequences_are_a_store_of_their_own(store: Scored, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(store) + 2))
    first, expected = marked(store).first(count), marked(store[:count])
    assert first.fingerprint == expected.fingerprint
    assert first.rows == expected.rows == len(expected.labels)
    assert len(first) == min(count, len(store))


def test_up_to_so_many_tokens_and_at_least_one_sequence() -> None:
    sequences = whole([3, 3, 5])
    assert [len(sequences.up_to(tokens)) for tokens in (1, 3, 6, 10, 11, 99)] == [1, 1, 2, 2, 3, 3]


def changed(field: str) -> Sequences:
    fields: dict[str, Tensor] = {
        "ids": torch.tensor([1, 2, 3], dtype=torch.int32),
        "lengths": torch.tensor([1, 2]),
        "scored": torch.tensor([True, True, False]),
        "labels": torch.tensor([4, 5]),
    }
    if field:
        fields[field] = fields[field].flip(0)
    return Sequences(**fields, pad=PAD)


@pytest.mark.parametrize("field", ["ids", "lengths", "scored", "labels"])
def test_everything_in_the_store_is_in_its_fingerprint(field: str) -> None:
    assert changed(field).fingerprint != changed("").fingerprint
    assert changed("").fingerprint == changed("").fingerprint


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), tokens=st.integers(1, 200))
def test_sequences_alike_stand_next_to_one_another_by_length(
    lengths: list[int], tokens: int
) -> None:
    sequences = Sequences.of([[1] * n for n in lengths], None, [0] * len(lengths), 0)
    chosen = sequences.alike(tokens)
    median = sorted(lengths)[len(lengths) // 2]
    assert len(chosen) == min(len(lengths), max(1, tokens // median))
    window, rest = sorted(lengths[n] for n in chosen), sorted(lengths)
    at = [begin for begin in range(len(rest)) if rest[begin : begin + len(window)] == window]
    assert at


def test_only_token_sequences_can_be_written_in_other_tokens() -> None:
    sequences = whole([2, 3])
    assert tokens_in(sequences) is sequences
    with pytest.raises(Unsupported, match="Images: only token sequences can be mapped"):
        tokens_in(Images())


class Images(TaskInputs):
    """TaskInputs that are no token sequences."""

    lengths = torch.ones(1)
    labels = torch.zeros(1)
    row_starts = torch.arange(2)
    fingerprint = ""

    def batch(self, numbers: Sequence[int]) -> Batch:
        raise NotImplementedError

    def first(self, count: int) -> "Images":
        raise NotImplementedError
