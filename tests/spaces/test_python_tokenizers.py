"""Teachers whose tokenizer is written in Python: nothing looks into it where it is not pruned."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertJapaneseTokenizer,
    BertweetTokenizer,
    ByT5Tokenizer,
    PerceiverTokenizer,
    PhobertTokenizer,
    PreTrainedTokenizer,
)

from protege.spaces import Choice, SearchSpace, Task, Teacher, Unsupported
from tests.tiny import Case, answer, save

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXT = "the teacher reads this"


class Letters(PreTrainedTokenizer):
    """A user's own: a token for each letter."""

    @property
    def vocab_size(self) -> int:
        return len(LETTERS)

    def get_vocab(self) -> dict[str, int]:
        return {letter: id_ for id_, letter in enumerate(LETTERS)} | self.added_tokens_encoder

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return [letter for letter in text if letter in LETTERS]

    def _convert_token_to_id(self, token: str) -> int:
        return LETTERS.index(token)

    def _convert_id_to_token(self, index: int) -> str:
        return LETTERS[index]


def japanese(folder: Path) -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    kinds = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
    return BertJapaneseTokenizer(str(folder / "vocab.txt"), **kinds)


def own(_: Path) -> Any:
    kind: Any = Letters
    return kind(pad_token="[PAD]")


def of_pairs(kind: Callable[..., Any]) -> Callable[[Path], Any]:
    def made(folder: Path) -> Any:
        lines = [f"{letter}@@ 9\n{letter} 5\n" for letter in LETTERS]
        (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
        (folder / "bpe.codes").write_text("t h 9\nth e</w> 8\n", encoding="utf-8")
        return kind(str(folder / "vocab.txt"), str(folder / "bpe.codes"))

    return made


TOKENIZERS: dict[str, tuple[Case, Callable[[Path], Any]]] = {
    "ByT5": (Case("t5", Task.TEXT_TO_TEXT, {"d_kv": 8}), lambda _: ByT5Tokenizer()),
    "BERTweet": (Case("roberta", Task.FILL_MASK), of_pairs(BertweetTokenizer)),
    "PhoBERT": (Case("roberta", Task.TEXTS), of_pairs(PhobertTokenizer)),
    "Japanese BERT": (Case("bert", Task.FILL_MASK), japanese),
    "Perceiver": (Case("bert", Task.FILL_MASK), lambda _: PerceiverTokenizer()),
    "own": (Case("gpt2", Task.GENERATION), own),
}


def made(name: str, folder: Path) -> Teacher:
    """A teacher with that tokenizer."""
    case, tokenizer = TOKENIZERS[name]
    found = tokenizer(folder)
    assert not found.is_fast
    fields = {**case.fields, "vocab_size": 400, "pad_token_id": found.pad_token_id}
    return replace(replace(case, fields=fields).teacher(), processor=found)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_students_of_fewer_layers_are_cut_and_exported_with_it(name: str, tmp_path: Path) -> None:
    teacher = made(name, tmp_path)
    own = SearchSpace(layers=Choice(0.5, 1.0), intermediate=Choice(1.0)).of(teacher)
    student = teacher.student(own.baselines[1])
    student.save(tmp_path / "student")
    assert student.tokenizer(TEXT)["input_ids"] == teacher.tokenizer(TEXT)["input_ids"]
    if name == "own":  # no library knows the class by its name
        return
    again = Teacher.load(tmp_path / "student", task=teacher.task.value)
    assert type(again.tokenizer) is type(teacher.tokenizer)
    assert again.tokenizer(TEXT)["input_ids"] == teacher.tokenizer(TEXT)["input_ids"]
    assert torch.equal(answer(again), answer(student))


@pytest.mark.parametrize("name", ["Japanese BERT", "own"])
def test_a_vocabulary_that_is_to_be_pruned_is_refused_with_what_to_do(
    name: str, tmp_path: Path
) -> None:
    teacher = made(name, tmp_path)
    with pytest.raises(Unsupported, match=r"cannot be pruned: leave out vocab, or give a teacher"):
        _ = SearchSpace(vocab=Choice(0.5, 1.0)).of(teacher).members


def test_it_is_loaded_as_published(tmp_path: Path) -> None:
    teacher = made("PhoBERT", tmp_path)
    loaded = Teacher.load(save(teacher, tmp_path / "saved"))
    assert type(loaded.tokenizer) is PhobertTokenizer
    assert loaded.can_be(loaded.architecture.scaled(layers=0.5))
