"""Mapping of labels to a teacher's class numbers, and a check that the teacher predicts them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example, Label
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.spaces import BadInput, Teacher

SHOWN = 12
"""Maximum number of classes in an error message."""

FEW = 20
"""Minimum labels for a significance test; with fewer, accuracy itself is compared to chance."""

SURE = 1.645
"""Required standard errors above chance: the one-sided 5% level."""


class Classes:
    """Lookup of a teacher's class numbers by name or by number."""

    def __init__(self, teacher: Teacher) -> None:
        names: Mapping[Any, Any] = teacher.config.id2label or {}
        aliases: Mapping[Any, Any] = teacher.config.label2id or {}
        self.numbers = {int(number) for number in names}
        # `id2label` wins over `label2id`, since pipelines use it
        self.named: dict[str, int] = {str(name): int(number) for number, name in names.items()}
        more = {str(name): int(number) for name, number in aliases.items()}
        self.named |= {n: i for n, i in more.items() if n not in self.named and i in self.numbers}
        self._folded = _unambiguous(self.named)

    def of_name(self, name: str) -> int | None:
        """Return the number of a class, ignoring case and separators; None if unknown."""
        return self.named.get(name, self._folded.get(_folded(name)))

    def number(self, label: Any) -> int:
        """Return the class number of a label, which is a number, a name or None; None gives -100.

        Raises:
            BadInput: The teacher has no such class.
        """
        if label is None:
            return NO_LABEL
        found = self.of_name(label) if isinstance(label, str) else label
        if found is None and isinstance(label, str) and label.isdecimal():
            found = int(label)
        if found not in self.numbers:
            raise BadInput(f"label {label!r}: the teacher's classes are {self}")
        return int(found)

    def __str__(self) -> str:
        return shown(self.named)


def renamed(examples: Iterable[Example], names: Sequence[str], teacher: Teacher) -> list[Example]:
    """Map a data set's class numbers to the teacher's, by class name.

    Args:
        examples: The examples.
        names: The data set's class names, in the order of its numbers. If the teacher knows none
            of them, the numbers are left unchanged.
        teacher: The teacher.
    """
    classes = Classes(teacher)
    numbers = [classes.of_name(name) for name in names]
    if all(number is None for number in numbers):
        return list(examples)
    # `Classes.number` later raises for names that the teacher does not know
    known: dict[Any, int | str] = {
        at: name if number is None else number
        for at, (name, number) in enumerate(zip(names, numbers, strict=True))
    }

    def label(given: Label | None) -> Label | None:
        if isinstance(given, tuple):
            return tuple(known.get(one, one) for one in given)
        return given if given is None else known.get(given, given)

    return [replace(example, label=label(example.label)) for example in examples]


def check_known(predicted: Tensor, labels: Tensor, names: Sequence[str], teacher: Teacher) -> None:
    """Check that the teacher predicts the labels better than chance.

    Chance is the expected agreement of independent predictions and labels with the observed class
    frequencies (Cohen 1960, "A coefficient of agreement for nominal scales"). If predictions or
    labels have one class only, chance is one over the number of classes.

    Args:
        predicted: The teacher's predicted class of each row, ``(rows,)``.
        labels: The true class of each row, ``(rows,)``; -100 if unknown.
        names: The data set's class names, in the order of its numbers; empty if unknown.
        teacher: The teacher.

    Raises:
        BadInput: The teacher is no better than chance.
    """
    known = labels != NO_LABEL
    predicted, labels = predicted[known], labels[known]
    if not len(labels):
        return
    classes = Classes(teacher)
    right, chance = (
        float((predicted == labels).double().mean()),
        _chance(predicted, labels, classes),
    )
    noise = SURE * (chance * (1 - chance) / len(labels)) ** 0.5 if len(labels) >= FEW else 0.0
    if right == 1 or right > chance + noise:
        return
    found = sorted(set(labels.tolist()))
    numbered = {name: at for at, name in enumerate(names)}
    theirs = numbered or {str(number): number for number in found}
    raise BadInput(
        f"labels: the teacher is right for {right:.0%} of {len(labels)}, no better than chance "
        f"({chance:.0%}); the data's classes are {shown(theirs)}, the teacher's are {classes}; "
        "give labels by the teacher's names or in its numbers, or leave them out"
    )


def _chance(predicted: Tensor, labels: Tensor, classes: Classes) -> float:
    """Return the accuracy expected by chance."""
    # Cohen's formula needs two classes
    if len(labels.unique()) == 1 or len(predicted.unique()) == 1:
        return 1 / max(2, len(classes.numbers))
    size = 1 + int(torch.cat([predicted, labels]).max())
    both = [
        values.bincount(minlength=size).double() / len(values) for values in (predicted, labels)
    ]
    return float((both[0] * both[1]).sum())


def shown(entries: Mapping[str, int]) -> str:
    """Format class names and numbers for a message, at most `SHOWN` of them."""
    listed = [f"{name!r}: {number}" for name, number in list(entries.items())[:SHOWN]]
    more = [f"and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return f"{{{', '.join(listed + more)}}}"


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _unambiguous(named: Mapping[str, int]) -> dict[str, int]:
    """Return class numbers by case-folded name, without names that two classes share."""
    counts = Counter(_folded(name) for name in named)
    return {_folded(name): at for name, at in named.items() if counts[_folded(name)] == 1}
