"""Scores of classifiers of texts, pairs of texts and images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.distillation.tasks.labels import Classes
from protege.objectives.measurement import Measurement
from protege.objectives.quality.score import Score, of_statistic
from protege.objectives.scores.metric import (
    Columns,
    check_installed,
    inputs_of,
    plain,
    score,
    table_of,
)
from protege.spaces import Student

Average = Literal["micro", "macro", "weighted", "samples"]


@dataclass(frozen=True)
class Accuracy:
    """The share of inputs whose most likely class is the right one.

    Attributes:
        table: Columns ``text``, ``pair`` or ``image``, and ``label``.
    """

    table: Table

    def __call__(self, student: Student) -> Any:
        return predicted(student, self.table) == numbers(student, self.table)


@dataclass(frozen=True)
class MacroF1:
    """The F1 of each class, averaged; see `Accuracy`."""

    table: Table

    def __call__(self, student: Student) -> Measurement:
        from sklearn.metrics import f1_score

        return _agreement(
            lambda true, found: f1_score(true, found, average="macro", zero_division=0.0),
            numbers(student, self.table),
            predicted(student, self.table),
        )


@dataclass(frozen=True)
class Matthews:
    """The correlation coefficient of Matthews; see `Accuracy`."""

    table: Table

    def __call__(self, student: Student) -> Measurement:
        from sklearn.metrics import matthews_corrcoef

        true, found = numbers(student, self.table), predicted(student, self.table)
        return _agreement(matthews_corrcoef, true, found)


@dataclass(frozen=True)
class MultiLabelF1:
    """The F1 of a multi-label classifier, which predicts the classes with a positive logit.

    Attributes:
        table: As of `Accuracy`; labels are lists of classes.
        average: How the F1 of classes or inputs are averaged.
        multi_hot: Whether labels are lists of a 0 or 1 for each class instead.
    """

    table: Table
    average: Average = "micro"
    multi_hot: bool = False

    def __call__(self, student: Student) -> Measurement:
        from sklearn.metrics import f1_score

        found = student.predict(inputs_of(self.table)).numpy() > 0
        true = np.zeros_like(found)
        for row, given in zip(true, self.table.columns["label"], strict=True):
            if self.multi_hot:
                row[:] = np.array(given, dtype=bool)
            else:
                row[[_number(student, one, self.table.classes) for one in given]] = True
        return _agreement(
            lambda one, two: f1_score(one, two, average=self.average, zero_division=0.0),
            true,
            found,
        )


def accuracy(data: Data, **options: Unpack[Columns]) -> Score:
    """Return the accuracy of a classifier.

    Args:
        data: Texts, pairs of texts or images, each with its class by number or by name.
        options: See `Columns`.
    """
    return _score("accuracy", Accuracy, data, options)


def macro_f1(data: Data, **options: Unpack[Columns]) -> Score:
    """Return the macro-averaged F1 (scikit-learn); as `accuracy`, its error by the jackknife."""
    check_installed("sklearn", "scikit-learn")
    return _score("macro_f1", MacroF1, data, options)


def matthews(data: Data, **options: Unpack[Columns]) -> Score:
    """Return the Matthews correlation (scikit-learn); as `accuracy`, its error by the jackknife."""
    check_installed("sklearn", "scikit-learn")
    return _score("matthews", Matthews, data, options)


def multi_label_f1(
    data: Data,
    *,
    average: Average = "micro",
    multi_hot: bool = False,
    **options: Unpack[Columns],
) -> Score:
    """Return the F1 of a classifier with several classes an input (scikit-learn).

    Its standard error is by the jackknife.

    Args:
        data: As of `accuracy`, with a list of classes for each input.
        average: How the F1 of classes (``macro``, ``weighted``) or inputs (``samples``) are
            averaged; ``micro`` counts all decisions together.
        multi_hot: Whether a label is a list of a 0 or 1 for each class instead.
        options: See `Columns`.
    """
    check_installed("sklearn", "scikit-learn")
    return _score(
        "multi_label_f1", lambda table: MultiLabelF1(table, average, multi_hot), data, options
    )


def _score(name: str, made: Callable[[Table], Any], data: Data, options: Columns) -> Score:
    return score(name, lambda given: made(table_of(given, options)), data, **plain(options))


def predicted(student: Student, table: Table) -> npt.NDArray[np.int64]:
    """Return the most likely class of each input."""
    found: npt.NDArray[np.int64] = student.predict(inputs_of(table)).argmax(-1).numpy()
    return found


def numbers(student: Student, table: Table) -> npt.NDArray[np.int64]:
    """Return the number of each right class.

    Raises:
        BadInput: The student has no such class.
    """
    return np.array([_number(student, one, table.classes) for one in table.columns["label"]])


def _number(student: Student, label: Any, names: Sequence[str]) -> int:
    """Return a class number; a number of the data set's own classes is looked up by name."""
    known: Any = Classes(student.model)  # type: ignore[arg-type]
    if names and isinstance(label, int) and (found := known.of_name(names[label])) is not None:
        return int(found)
    return int(known.number(label))


def _agreement(
    statistic: Callable[[Any, Any], float], true: npt.NDArray[Any], found: npt.NDArray[Any]
) -> Measurement:
    return of_statistic(lambda kept: float(statistic(true[kept], found[kept])), len(true))
