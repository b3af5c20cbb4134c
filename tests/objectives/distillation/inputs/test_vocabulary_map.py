"""A student reads the very text its teacher reads, in pieces of its own."""

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.spaces import Infeasible, Teacher
from protege.spaces.vocabulary.tokenizer import shrunk
from tests import pieces
from tests.pieces import LINES, SIZES, TEXTS, chosen, tokenizer
from tests.tiny import CASES, ZOO

# of other characters a student may know none
ASCII = [text for text in TEXTS if text.isascii()]
READS = st.lists(
    st.sampled_from(ASCII) | st.text("abc XYZ.,(9", max_size=9), min_size=1, max_size=9
)
KINDS = {"wordpiece": "bert-sentences", "bytes": "llama-causal-tied"}
WIDE: dict[str, Any] = {
    "kind": st.sampled_from(sorted(KINDS)),
    "texts": READS,
    "seed": st.integers(0, 5),
    "ratio": st.sampled_from([0.5, 0.6, 0.9]),
}


def vocabulary_map(kind: str, kept: tuple[int, ...]) -> VocabularyMap:
    teacher = pieces.teacher(KINDS[kind])
    return VocabularyMap.of(teacher, teacher.model, shrunk(tokenizer(kind), kept), kept)


def read(kind: str, texts: list[str]) -> Sequences:
    ids = tokenizer(kind)(texts)["input_ids"]
    ids = [one or [0] for one in ids]  # bytes: of nothing there are none
    return Sequences.of(ids, None, range(len(ids)), pad=0)


def of(
    *expansions: list[int], untold: Tensor | None = None, reads: int | None = None
) -> VocabularyMap:
    """The vocabulary_map with these pieces of each token."""
    return VocabularyMap(
        pieces=torch.tensor([piece for one in expansions for piece in one], dtype=torch.int32),
        starts=torch.tensor([0, *map(len, expansions)]).cumsum(0),
        untold=torch.zeros(len(expansions)) if untold is None else untold,
        size=1 + max(piece for one in expansions for piece in one),
        reads=reads,
    )


@given(kind=WIDE["kind"], texts=READS)
@settings(max_examples=20)
def test_with_every_token_kept_nothing_changes(kind: str, texts: list[str]) -> None:
    whole, given_ = vocabulary_map(kind, tuple(range(SIZES[kind]))), read(kind, texts)
    spelt = whole.spelt(given_.ids, given_.lengths)
    assert torch.equal(spelt.ids, given_.ids)
    assert torch.equal(spelt.lengths, given_.lengths)
    assert torch.equal(spelt.token, torch.arange(len(given_.ids)))
    assert not whole.untold.any() or kind == "wordpiece"
    assert replace(whole, reads=None).mapped(given_).fingerprint == given_.fingerprint


@given(**WIDE)
@settings(max_examples=40)
def test_the_pieces_say_the_same_text(kind: str, texts: list[str], seed: int, ratio: float) -> None:
    kept = chosen(kind, ratio, seed)
    spelt_by, given_ = vocabulary_map(kind, kept), read(kind, texts)
    spelt = spelt_by.spelt(given_.ids, given_.lengths)
    small = shrunk(tokenizer(kind), kept)
    texts_read = tokenizer(kind).batch_decode(given_.ids.split(given_.lengths.tolist()))
    assert small.batch_decode(spelt.ids.split(spelt.lengths.tolist())) == texts_read


@given(**WIDE)
@settings(max_examples=20)
def test_each_piece_knows_its_token(kind: str, texts: list[str], seed: int, ratio: float) -> None:
    spelt_by, given_ = vocabulary_map(kind, chosen(kind, ratio, seed)), read(kind, texts)
    spelt = spelt_by.spelt(given_.ids, given_.lengths)
    assert (spelt.token.diff() >= 0).all()
    assert torch.equal(spelt.token.unique(), torch.arange(len(given_.ids)))
    kept = torch.tensor(chosen(kind, ratio, seed))
    alone = torch.isin(given_.ids, kept)
    assert torch.equal(kept[spelt.ids.long()][alone[spelt.token]].int(), given_.ids[alone])
    expected = torch.stack([part.sum() for part in counts(spelt_by, given_)])
    assert torch.equal(spelt.lengths, expected)


def counts(spelt_by: VocabularyMap, given_: Sequences) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = spelt_by.starts.diff()[given_.ids.long()].split(
        given_.lengths.tolist()
    )
    return found


def test_a_scored_token_is_asked_at_its_last_piece() -> None:
    spelt_by = of([0], [1, 2, 3], [4], [2, 2])
    marked = Sequences.of([[0, 1, 2], [3, 1]], [[False, True, True], [True, False]], [7, 8, 9], 0)
    found = spelt_by.mapped(marked)
    assert found.ids.tolist() == [0, 1, 2, 3, 4, 2, 2, 1, 2, 3]
    assert found.lengths.tolist() == [5, 5]
    assert found.scored is not None
    assert found.scored.nonzero().flatten().tolist() == [3, 4, 6]
    assert found.labels.tolist() == [7, 8, 9]


def test_a_batch_is_filled_up_with_the_students_padding() -> None:
    spelt_by = of([1], [0], [2, 3])
    found = spelt_by.mapped(Sequences.of([[1, 2], [1]], None, [0, 0], pad=0))
    assert found.batch([0, 1]).inputs["input_ids"].tolist() == [[0, 2, 3], [0, 1, 1]]


def test_a_text_longer_than_the_student_reads_is_cut_before_its_last_piece() -> None:
    spelt_by = of([0], [1, 2, 3], [4], reads=5)
    found = spelt_by.mapped(Sequences.of([[0, 1, 1, 2], [1], [0, 1, 2]], None, [0, 0, 0], pad=0))
    assert [part.tolist() for part in found.ids.split(found.lengths.tolist())] == [
        [0, 1, 2, 3, 4],
        [1, 2, 3],
        [0, 1, 2, 3, 4],
    ]


def test_answers_beyond_what_the_student_reads_are_refused() -> None:
    spelt_by = of([0], [1, 2, 3], [4], [1], [2], [3], [4], [0], [0], [0], reads=6)
    marked = Sequences.of([[0, 1], [0, 1, 1]], [[True, False], [False] * 3], [0], 0)
    message = (
        r"vocab 0.5: in 5 tokens for 10 a sequence of 3 becomes one of 7, and the student reads 6; "
        r"keep more tokens, or lower the distillation's max_tokens"
    )
    with pytest.raises(Infeasible, match=message):
        spelt_by.mapped(marked)
    assert len(replace(spelt_by, reads=7).mapped(marked).ids) == 11


@pytest.mark.parametrize(
    ("teacher", "reads"),
    [
        (CASES["bert-masked"].teacher(), 40),
        (CASES["bert-sentences"].teacher(), 32),  # its pooling cuts texts there
        (ZOO["roberta-fill-mask"].teacher(), 39),  # positions are counted on from the padding's, 0
        (ZOO["mpnet-fill-mask"].teacher(), 38),  # from 1, whatever its padding is
        (ZOO["gpt2-text-generation"].teacher(), 40),
    ],
    ids=lambda given_: given_.config.model_type if isinstance(given_, Teacher) else None,
)
def test_a_student_reads_as_far_as_it_has_positions(teacher: Teacher, reads: int) -> None:
    kept = tuple(range(teacher.architecture.vocab_size))
    found = VocabularyMap.of(teacher, teacher.model, teacher.tokenizer, kept)
    assert found.reads == reads


def test_a_token_that_cannot_be_spelt_is_one_of_all_such() -> None:
    teacher = CASES["bert-masked"].teacher()  # of whole words: a dropped one is unknown
    kept = tuple(range(40))
    found = VocabularyMap.of(teacher, teacher.model, shrunk(teacher.tokenizer, kept), kept)
    assert found.first.tolist() == [*range(40), *[1] * 56]
    unknown = torch.tensor([id_ == 1 or id_ >= 40 for id_ in range(96)])
    assert found.untold[unknown].exp().tolist() == pytest.approx([57] * 57)
    assert not found.untold[~unknown].any()


def test_rows_without_a_token_have_a_piece_too() -> None:
    teacher = pieces.teacher("llama-causal-tied", vocab_size=640)
    kept = chosen("bytes", 0.5)
    found = VocabularyMap.of(teacher, teacher.model, shrunk(tokenizer("bytes"), kept), kept)
    assert len(found.first) == len(found.untold) == 640
    assert not found.untold.any()


def test_a_million_tokens_take_a_moment() -> None:
    given_ = read("bytes", LINES)
    given_ = replace(given_, ids=given_.ids.repeat(17), lengths=given_.lengths.repeat(17))
    assert len(given_.ids) > 1e6
    spelt_by = vocabulary_map("bytes", chosen("bytes", 0.5))
    start_s = time.perf_counter()
    spelt_by.spelt(given_.ids, given_.lengths)
    assert time.perf_counter() - start_s < 2  # a tenth of that where nothing else runs
