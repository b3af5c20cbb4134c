"""Words are asked at their first piece, and carry their labels."""

from dataclasses import replace

import pytest
import torch

from protege.objectives import Example
from protege.objectives.distillation.inputs.sequences import tokens_in
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.spaces import BadInput, Unsupported
from tests import pieces

TEACHER = pieces.teacher("bert-tokens")
WORDS = [tuple(line.split()) for line in pieces.TEXTS[:12]]


def asked(examples: list[Example], max_tokens: int = 90) -> torch.Tensor:
    found = tokens_in(distillation_task(TEACHER).inputs(TEACHER, examples, max_tokens))
    assert found.rows == len(found.labels)
    return found.labels


def test_each_word_is_one_row_and_carries_its_label() -> None:
    labels = [tuple(number % 3 for number, _ in enumerate(words)) for words in WORDS]
    found = asked([Example(w, label) for w, label in zip(WORDS, labels, strict=True)])
    assert found.tolist() == [number for label in labels for number in label]


def test_the_row_of_a_word_is_its_first_piece() -> None:
    found = tokens_in(distillation_task(TEACHER).inputs(TEACHER, [Example(WORDS[0])], 90))
    first = [TEACHER.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS[0]]
    assert found.ids[found.positions].tolist() == first
    assert max(len(TEACHER.tokenizer.tokenize(word)) for word in WORDS[0]) > 1


def test_a_byte_level_tokenizer_reads_words_as_in_a_text() -> None:
    """To it the space before a word is a part of the word."""
    teacher = replace(TEACHER, processor=pieces.tokenizer("bytes"))
    found = tokens_in(distillation_task(teacher).inputs(teacher, [Example(WORDS[0])], 90))
    assert found.ids.tolist() == teacher.tokenizer(" ".join(WORDS[0]))["input_ids"]
    assert found.rows == len(WORDS[0])
    first = [str(teacher.tokenizer.decode(one)).lstrip()[0] for one in found.ids[found.positions]]
    assert first == [word[0] for word in WORDS[0]]


def test_a_tokenizer_that_knows_no_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(TEACHER.tokenizer), "is_fast", False)
    with pytest.raises(Unsupported, match="Tokenizer: it cannot map tokens to words"):
        asked([Example(WORDS[0])])


def test_labels_go_by_name_too() -> None:
    named = tuple(f"LABEL_{number % 3}" for number, _ in enumerate(WORDS[0]))
    numbered = tuple(number % 3 for number, _ in enumerate(WORDS[0]))
    assert torch.equal(asked([Example(WORDS[0], named)]), asked([Example(WORDS[0], numbered)]))


def test_words_without_labels_and_whole_texts_have_none() -> None:
    assert set(asked([Example(words) for words in WORDS]).tolist()) == {NO_LABEL}
    assert set(asked([Example(text) for text in pieces.TEXTS[:4]]).tolist()) == {NO_LABEL}


def test_words_that_are_cut_off_lose_their_rows() -> None:
    labels = tuple(0 for _ in WORDS[0])
    assert 0 < len(asked([Example(WORDS[0], labels)], max_tokens=8)) < len(WORDS[0])


def test_another_number_of_labels_is_refused() -> None:
    with pytest.raises(BadInput, match=r"\d+ words with 1 labels; expected one per word"):
        asked([Example(WORDS[0], (1,))])
    with pytest.raises(BadInput, match=r"\d+ words with the label 1; expected one per word"):
        asked([Example(WORDS[0], 1)])


def test_a_text_among_words_is_refused() -> None:
    with pytest.raises(BadInput, match="expected a list of words, as the first example is one"):
        asked([Example(WORDS[0]), Example("whole text")])
