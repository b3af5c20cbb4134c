"""Scores of token classifiers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.measurement import Measurement
from protege.objectives.quality.score import Indices, Score, of_statistic
from protege.objectives.scores.metric import Options, check_fast, check_installed, cut_at, score
from protege.spaces import BadInput, Student

GROUPS = 20
"""Groups of the jackknife; seqeval is slow."""

OUTSIDE = "O"
"""The class of words that belong to no entity."""


@dataclass(frozen=True)
class TokenF1:
    """The F1 of entities as seqeval counts them; the first token of a word decides its class.

    Attributes:
        table: Columns ``words`` and ``label``: a class for each word, such as ``B-PER`` and ``O``.
    """

    table: Table

    def __call__(self, student: Student) -> Measurement:
        from seqeval.metrics import f1_score

        named = student.model.config.id2label or {}
        names = {int(number): str(name) for number, name in named.items()}
        true = [[self._name(one, names) for one in row] for row in self.table.columns["label"]]
        found = tagged(student, [list(row) for row in self.table.columns["words"]])

        def statistic(kept: Indices) -> float:
            pairs = [true[n] for n in kept], [found[n] for n in kept]
            return float(f1_score(*pairs, zero_division=0))

        return of_statistic(statistic, len(true), groups=GROUPS)

    def _name(self, label: Any, names: dict[int, str]) -> str:
        """Return the name of a class: of the data set's own numbers if it names them."""
        if isinstance(label, str):
            return label
        own = dict(enumerate(self.table.classes)) or names
        if label not in own:
            raise BadInput(f"label {label!r}: the classes are {', '.join(own.values())}")
        return own[label]


def tagged(student: Student, words: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the class of each word; words beyond what the student reads are outside."""
    check_fast(student)
    read = student.tokenizer(words, is_split_into_words=True, **cut_at(student))
    classes = student.predict(read).argmax(-1).tolist()
    names = dict[int, str](student.model.config.id2label or {})
    found = [[OUTSIDE] * len(row) for row in words]
    for number, row in enumerate(found):
        last = None
        for token, word in enumerate(read.word_ids(number)):
            if word is not None and word != last:
                row[word] = names[classes[number][token]]
            last = word
    return found


def token_f1(
    data: Data, *, words: str = "tokens", label: str = "tags", **options: Unpack[Options]
) -> Score:
    """Return the F1 of named entities (seqeval); its standard error is by the jackknife.

    Args:
        data: Texts split into words, with a class for each word.
        words: Column of the lists of words.
        label: Column of the lists of classes, by name or by number.
        options: See `Options`.
    """
    check_installed("seqeval")

    def metric(given: Data) -> TokenF1:
        table = Table.of(given, words=words, label=label)
        for row, tags in zip(table.columns["words"], table.columns["label"], strict=True):
            if not isinstance(row, list) or not isinstance(tags, list) or len(row) != len(tags):
                raise BadInput(f"columns {words!r} and {label!r}: expected lists of equal length")
        return TokenF1(table)

    return score("token_f1", metric, data, **options)
