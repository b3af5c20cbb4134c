"""Labels as numbers of a teacher's classes, and whether the teacher knows them at all."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example, Label
from protege.objectives.distillation.losses import NO_LABEL
from protege.spaces import BadInput, Teacher

SHOWN = 12
"""Classes that an error names."""

FEW = 20
"""Fewest labels for a significance test; with fewer, the agreement itself is compared to chance."""

SURE = 1.645
"""Standard errors above chance that one teacher of twenty which guesses reaches."""


class Classes:
    """The numbers of a teacher's classes, by name and by number."""

    def __init__(self, teacher: Teacher) -> None:
        names: Mapping[Any, Any] = teacher.config.id2label or {}
        aliases: Mapping[Any, Any] = teacher.config.label2id or {}
        self.numbers = {int(number) for number in names}
        # pipelines answer by `id2label`; where the two disagree, that counts
        self.named: dict[str, int] = {str(name): int(number) for number, name in names.items()}
        more = {str(name): int(number) for name, number in aliases.items()}
        self.named |= {n: i for n, i in more.items() if n not in self.named and i in self.numbers}
        self._folded = _unambiguous(self.named)

    def of_name(self, name: str) -> int | None:
        """Return the number of a class, in whatever case and spacing; None if there is none."""
        return self.named.get(name, self._folded.get(_folded(name)))

    def number(self, label: Any) -> int:
        """Return the number of a label, itself a number or a name; -100 of None.

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
    """Return the examples with class numbers of a data set as those of the teacher.

    Args:
        examples: The examples.
        names: The data set's name of each number. Where the teacher knows none of them, its
            numbers are taken for the teacher's.
        teacher: The teacher.
    """
    classes = Classes(teacher)
    numbers = [classes.of_name(name) for name in names]
    if all(number is None for number in numbers):
        return list(examples)
    # a name that the teacher does not know is left for `Classes.number` to refuse
    known: dict[Any, int | str] = {
        at: name if number is None else number
        for at, (name, number) in enumerate(zip(names, numbers, strict=True))
    }

    def label(given: Label | None) -> Label | None:
        if isinstance(given, tuple):
            return tuple(known.get(one, one) for one in given)
        return given if given is None else known.get(given, given)

    return [replace(example, label=label(example.label)) for example in examples]


def check_known(said: Tensor, labels: Tensor, names: Sequence[str], teacher: Teacher) -> None:
    """Refuse labels that the teacher does not know better than chance.

    Chance is what a teacher would be right for if its answers had nothing to do with the labels,
    each as frequent as it is (Cohen 1960, "A coefficient of agreement for nominal scales"). Where
    either is one class alone it is one over the number of classes.

    Args:
        said: The teacher's class of each row.
        labels: The true class of each row, -100 where it has none.
        names: The data set's name of each of its numbers, if it has any.
        teacher: The teacher.

    Raises:
        BadInput: Shows the classes of both.
    """
    known = labels != NO_LABEL
    said, labels = said[known], labels[known]
    if not len(labels):
        return
    classes = Classes(teacher)
    right, chance = float((said == labels).double().mean()), _chance(said, labels, classes)
    noise = SURE * (chance * (1 - chance) / len(labels)) ** 0.5 if len(labels) >= FEW else 0.0
    if right == 1 or right > chance + noise:
        return
    found = sorted(set(labels.tolist()))
    numbered = {name: at for at, name in enumerate(names)}
    theirs = numbered or {str(number): number for number in found}
    raise BadInput(
        f"labels: the teacher is right for {right:.0%} of {len(labels)}, and by chance it would be "
        f"for {chance:.0%}; the data's classes are {shown(theirs)}, the teacher's are {classes}; "
        "give labels by the teacher's names or in its numbers, or leave them out"
    )


def _chance(said: Tensor, labels: Tensor, classes: Classes) -> float:
    """Return the share of answers that is right by chance."""
    if len(labels.unique()) == 1 or len(said.unique()) == 1:  # agreement cannot be told from habit
        return 1 / max(2, len(classes.numbers))
    size = 1 + int(torch.cat([said, labels]).max())
    both = [values.bincount(minlength=size).double() / len(values) for values in (said, labels)]
    return float((both[0] * both[1]).sum())


def shown(entries: Mapping[str, int]) -> str:
    """Return names with a number each; of many the first ones."""
    listed = [f"{name!r}: {number}" for name, number in list(entries.items())[:SHOWN]]
    more = [f"and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return f"{{{', '.join(listed + more)}}}"


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _unambiguous(named: Mapping[str, int]) -> dict[str, int]:
    """Return the numbers by folded name, where no two classes share it."""
    counts = Counter(_folded(name) for name in named)
    return {_folded(name): at for name, at in named.items() if counts[_folded(name)] == 1}
