"""Scores of models that answer with a number: ``num_labels=1``."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr
from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.measurement import Measurement
from protege.objectives.quality.score import Score, of_statistic
from protege.objectives.scores.metric import Columns, inputs_of, plain, score, table_of
from protege.spaces import BadInput, Student


@dataclass(frozen=True)
class SquaredError:
    """The squared error of each prediction.

    Attributes:
        table: Columns ``text``, ``pair`` or ``image``, and ``label``.
    """

    table: Table

    def __call__(self, student: Student) -> npt.NDArray[np.float64]:
        return np.square(_predicted(student, self.table) - self.table.numbers("label"))


@dataclass(frozen=True)
class Pearson:
    """The correlation of predictions and labels; see `SquaredError`."""

    table: Table

    def __call__(self, student: Student) -> Measurement:
        found, true = _predicted(student, self.table), self.table.numbers("label")
        return of_statistic(
            lambda kept: float(pearsonr(found[kept], true[kept]).statistic), len(true)
        )


def mean_squared_error(data: Data, **options: Unpack[Columns]) -> Score:
    """Return the mean squared error of a regression.

    Args:
        data: Texts, pairs of texts or images, each with its number in the column ``label``.
        options: See `Columns`.
    """

    def metric(given: Data) -> SquaredError:
        return SquaredError(_checked(table_of(given, options)))

    return score("mean_squared_error", metric, data, "minimize", **plain(options))


def pearson(data: Data, **options: Unpack[Columns]) -> Score:
    """Return the Pearson correlation of a regression with its labels (scipy).

    Its standard error is by the jackknife; data and options are as of `mean_squared_error`.
    """

    def metric(given: Data) -> Pearson:
        return Pearson(_checked(table_of(given, options)))

    return score("pearson", metric, data, **plain(options))


def _checked(table: Table) -> Table:
    table.numbers("label")
    return table


def _predicted(student: Student, table: Table) -> npt.NDArray[np.float64]:
    """Return the predicted numbers.

    Raises:
        BadInput: The model has several outputs.
    """
    found = student.predict(inputs_of(table)).double()
    if found.shape[1:] != (1,):
        raise BadInput(f"outputs of shape {tuple(found.shape[1:])}: expected num_labels=1")
    values: npt.NDArray[np.float64] = found[:, 0].numpy()
    return values
