"""Examples as the texts that a tokenizer reads, and labels as numbers of a teacher's classes."""

from collections.abc import Sequence
from typing import Any

from protege.objectives.data.example import Example
from protege.objectives.distillation.losses import NO_LABEL
from protege.spaces import BadInput, Teacher

CHARACTERS = 6
"""Characters of a token, at most on average: so much text fills as many sequences as asked for."""


def texts_of(examples: Sequence[Example], teacher: Teacher) -> list[str]:
    """The texts of the examples.

    Raises:
        BadInput: One is no text.
    """
    for example in examples:
        if not isinstance(example.content, str):
            kind = type(example.content).__name__
            raise BadInput(
                f"an example that is a {kind}: a teacher for {teacher.task} reads texts; "
                "give Texts of strings"
            )
    return [str(example.content) for example in examples]


class Classes:
    """The numbers of a teacher's classes."""

    def __init__(self, teacher: Teacher) -> None:
        self._named: dict[str, int] = dict(teacher.config.label2id or {})  # type: ignore[arg-type]
        self._numbers: dict[Any, int] = {number: number for number in self._named.values()}
        self._numbers.update(self._named)

    def number(self, label: Any) -> int:
        """The number of a label, itself a number or a name; -100 of none.

        Raises:
            BadInput: It is none of the teacher's classes.
        """
        if label is None:
            return NO_LABEL
        if label not in self._numbers:
            raise BadInput(f"label {label!r}: the teacher's classes are {self._named}")
        return self._numbers[label]
