"""What is asked is recognised by what it says, whatever it is padded to or batched with."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.objectives.data import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.tasks.choice import distillation_task
from tests.tiny import CASES, texts

PAD = 0
IDS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=14)


def store(ids: list[list[int]], pad: int = PAD) -> Sequences:
    """Sequences that are one row each."""
    return Sequences.of(ids, None, [-100] * len(ids), pad)


def asked(name: str) -> TaskInputs:
    """What a teacher of a kind is asked."""
    teacher = CASES[name].teacher()
    return distillation_task(teacher).inputs(teacher, [Example(text) for text in texts(30)], 16)


def checks(inputs: TaskInputs, numbers: list[int]) -> Tensor:
    return inputs.batch(numbers).checks


def joined(batches: list[Batch]) -> Tensor:
    """The hash of each sequence, by its number."""
    order = torch.cat([batch.numbers for batch in batches]).argsort()
    return torch.cat([batch.checks for batch in batches])[order]


@pytest.mark.parametrize("name", CASES)
def test_a_batch_knows_what_its_store_was_asked(name: str) -> None:
    inputs = asked(name)
    for batch in islice(inputs.shuffled(7, seed=0), 9):
        assert torch.equal(
            torch.cat([part.checks for part in batch]),
            inputs.checks[torch.cat([part.numbers for part in batch])],
        )


@pytest.mark.parametrize("name", CASES)
def test_no_two_questions_of_a_store_hash_alike(name: str) -> None:
    inputs = asked(name)
    ids = {tuple(one.tolist()) for one in inputs.ids.split(inputs.lengths.tolist())}
    assert len(inputs.checks.unique()) == len(ids)


@given(ids=IDS, size=st.integers(1, 5))
def test_padding_is_no_part_of_a_question(ids: list[list[int]], size: int) -> None:
    # the ids include that of the padding: as a real token it counts
    alone = torch.cat([checks(store([one]), [0]) for one in ids])
    for pad in (PAD, 5):
        assert torch.equal(joined(list(store(ids, pad).in_order(size))), alone)


@given(ids=IDS, data=st.data())
def test_one_other_token_is_another_question(ids: list[list[int]], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(ids) - 1))
    place = data.draw(st.integers(0, len(ids[row]) - 1))
    other = [list(one) for one in ids]
    other[row][place] = data.draw(st.integers(0, 9).filter(lambda id_: id_ != ids[row][place]))
    differ = store(ids).checks != store(other).checks
    assert differ.nonzero().flatten().tolist() == [row]


@given(ids=st.lists(st.integers(0, 9), min_size=1, max_size=8), pad=st.integers(0, 9))
def test_a_longer_question_is_another_one(ids: list[int], pad: int) -> None:
    assert not torch.equal(checks(store([ids]), [0]), checks(store([[*ids, pad]]), [0]))


@given(ids=st.lists(st.integers(0, 9), min_size=2, max_size=8, unique=True))
def test_the_order_of_tokens_counts(ids: list[int]) -> None:
    assert not torch.equal(checks(store([ids]), [0]), checks(store([ids[::-1]]), [0]))


def test_every_pixel_of_an_image_counts() -> None:
    pixels = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = image_batch(pixels).checks
    assert len(whole.unique()) == 3
    assert torch.equal(image_batch(pixels.clone()).checks, whole)
    for place in ((0, 0, 0, 0), (1, 2, 3, 1), (2, 1, 0, 3)):
        other = pixels.clone()
        other[place] = torch.nextafter(other[place], torch.tensor(9.0))
        differ = image_batch(other).checks != whole
        assert differ.nonzero().flatten().tolist() == [place[0]]


def image_batch(pixels: Tensor) -> Batch:
    numbers = torch.arange(len(pixels))
    scored = torch.zeros(len(pixels), 1, dtype=torch.bool)
    return Batch({"pixel_values": pixels}, scored, numbers, numbers)


def test_of_images_every_one_is_a_token() -> None:
    batch = image_batch(torch.zeros(2, 3, 4, 4))
    assert torch.equal(batch.mask, torch.ones(2, 1))


def test_what_is_written_counts_as_well_as_what_is_read() -> None:
    read, written = torch.tensor([[1, 2, 0]]), torch.tensor([[3, 4]])
    mask = torch.tensor([[1, 1, 0]])

    def found(written: Tensor, written_mask: Tensor) -> Tensor:
        inputs = {"input_ids": read, "attention_mask": mask, "decoder_input_ids": written}
        given_ = {**inputs, "decoder_attention_mask": written_mask}
        return Batch(given_, torch.zeros(1, 2), torch.arange(1), torch.arange(1)).checks

    whole = found(written, torch.ones(1, 2))
    assert not torch.equal(whole, found(torch.tensor([[3, 5]]), torch.ones(1, 2)))
    padded = found(torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 0]]))
    assert torch.equal(whole, padded)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    size=st.integers(1, 9),
    pieces=st.integers(1, 4),
)
def test_pieces_of_a_batch_are_that_batch(lengths: list[int], size: int, pieces: int) -> None:
    inputs = store([[1] * length for length in lengths])
    whole = islice(inputs.shuffled(size, seed=3), 12)
    for parts, (batch,) in zip(inputs.shuffled(size, 3, pieces), whole, strict=False):
        assert torch.cat([part.numbers for part in parts]).tolist() == batch.numbers.tolist()
        assert len(parts) == min(pieces, len(batch.numbers))
        sizes = [len(part.numbers) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@given(ids=IDS, data=st.data())
def test_a_stretch_in_order_is_of_that_stretch_alone(
    ids: list[list[int]], data: st.DataObject
) -> None:
    inputs = store(ids)
    begin = data.draw(st.integers(0, len(ids) - 1))
    end = data.draw(st.integers(begin + 1, len(ids)))
    found = torch.cat([batch.numbers for batch in inputs.in_order(3, begin, end)])
    assert sorted(found.tolist()) == list(range(begin, end))


MARKED = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=9)


@given(marked=MARKED.filter(lambda all_: any(map(any, all_))))
def test_values_of_rows_are_averaged_by_sequence(marked: list[list[bool]]) -> None:
    count = sum(map(sum, marked))
    inputs = Sequences.of([[1] * len(one) for one in marked], marked, [0] * count, PAD)
    values = torch.randn(count, generator=torch.Generator().manual_seed(0))
    parts = values.split([sum(one) for one in marked])
    expected = torch.stack([part.double().mean() for part in parts if len(part)])
    torch.testing.assert_close(inputs.by_sequence(values), expected)


def test_a_batch_on_a_device_keeps_rows_and_numbers_where_the_answers_are() -> None:
    batch = asked("llama-causal-tied").batch([0, 1])
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in (*moved.inputs.values(), moved.scored)} == {"meta"}
    assert moved.rows is batch.rows
    assert moved.numbers is batch.numbers
    assert batch.to(torch.device("cpu")) is batch
