"""The distillation task of token classifiers, which match the teacher's logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences, encoded, sequences, texts_of
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import Classes
from protege.spaces import BadInput, Teacher, Unsupported


@dataclass(frozen=True)
class TokenTask(ClassTask):
    """Token classification.

    Texts split into words are scored at the first token of each word. Whole texts are scored,
    without labels, at every token that is not special.
    """

    @property
    def name(self) -> str:
        return "token-classes"

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        if examples and isinstance(examples[0].content, tuple):
            return _by_word(teacher, examples, max_tokens)
        texts = texts_of(examples, teacher)
        ids = encoded(teacher, texts, max_tokens)["input_ids"]
        special = set(teacher.tokenizer.all_special_ids)
        scored = [[token not in special for token in one] for one in ids]
        unlabelled = [NO_LABEL] * sum(map(sum, scored))
        return sequences(teacher, ids, scored, unlabelled)

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = module(**batch.inputs).logits
        return logits[batch.scored]


def _by_word(teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> Sequences:
    """Tokenise texts split into words; the first token of each word has the word's label.

    Raises:
        Unsupported: The tokenizer cannot map tokens to words.
    """
    if not teacher.tokenizer.is_fast:
        raise Unsupported(
            f"words for {type(teacher.tokenizer).__name__}: it cannot map tokens to words; give a "
            "teacher with a fast tokenizer (tokenizer.json), or whole texts"
        )
    classes = Classes(teacher)
    pairs = [_checked(example) for example in examples]
    words = _as_read([words for words, _ in pairs], teacher)
    read = encoded(teacher, words, max_tokens, is_split_into_words=True)
    scored, labels = [], []
    for number, (_, given) in enumerate(pairs):
        first: list[bool] = []
        before = None
        for word in read.word_ids(number):
            first.append(word is not None and word != before)
            if first[-1]:
                labels.append(classes.number(given[word] if given else None))
            before = word
        scored.append(first)
    return sequences(teacher, read["input_ids"], scored, labels)


def _as_read(texts: list[list[str]], teacher: Teacher) -> list[list[str]]:
    """Prepend spaces to words for byte-level tokenizers, which encode them with the word."""

    def ids(words: str | list[str]) -> Any:
        split = isinstance(words, list)
        return teacher.tokenizer(words, is_split_into_words=split)["input_ids"]

    if ids(["a", "b"]) == ids("a b") or ids(["a", " b"]) != ids("a b"):
        return texts
    return [[word if not at else f" {word}" for at, word in enumerate(text)] for text in texts]


def _checked(example: Example) -> tuple[list[str], tuple[float | str, ...]]:
    """Return the words and the labels of an example; the labels may be empty.

    Raises:
        BadInput: The content is not split into words, or the number of labels differs.
    """
    words, label = example.content, example.label
    if not isinstance(words, tuple):
        raise BadInput(f"{words!r:.60}: expected a list of words, as the first example is one")
    if label is None:
        return list(words), ()
    if not isinstance(label, tuple) or len(label) != len(words):
        given = f"{len(label)} labels" if isinstance(label, tuple) else f"the label {label!r:.20}"
        raise BadInput(
            f"{' '.join(words)!r:.60}: {len(words)} words with {given}; expected one per word"
        )
    return list(words), label
