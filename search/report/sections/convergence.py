"""Whether more trials would help: the hypervolume over trials, in words and as a curve."""

from math import isfinite
from typing import NamedTuple

import pandas as pd

from protege.search.analysis.result import StudyResult
from protege.search.records.trial import Trial
from protege.search.records.wording import significant
from protege.search.report import figures
from protege.search.report.parts import Plot, plot
from protege.search.report.sections.section import Section

LAST = 10
"""Trials whose gain is stated."""


class Convergence(NamedTuple):
    """How far a study has come.

    Attributes:
        tried: Number of trials.
        possible: Students in the space; None if not recorded.
        hypervolume: The hypervolume of the front; NaN without a teacher.
        last: The number of last trials that `added` is of, at most `LAST`.
        added: The share of the hypervolume that these trials added.
    """

    tried: int
    possible: int | None
    hypervolume: float
    last: int
    added: float

    @property
    def sentence(self) -> str:
        """The same in words."""
        of_all = f" of {self.possible:,}" if self.possible else ""
        tried = f"{self.tried}{of_all} students were tried"
        if not isfinite(self.added):
            return f"{tried[:1].upper()}{tried[1:]}."
        return f"The last {self.last} trials added {self.added:.1%} to the hypervolume; {tried}."


def progress(front: StudyResult) -> pd.DataFrame:
    """Return the ``hypervolume`` after each ``trial``; no rows without a teacher trial."""
    if front.teacher is None:
        return pd.DataFrame(columns=["trial", "hypervolume"])
    rows = []
    best: list[Trial] = []
    volume = 0.0
    for trial in front.trials:
        # only a trial that joins the front changes the hypervolume
        joined = front.objectives.front([*best, trial])
        if trial in joined:
            best, volume = joined, front.objectives.hypervolume(joined, front.teacher)
        rows.append((trial.number, volume))
    return pd.DataFrame(rows, columns=["trial", "hypervolume"])


def convergence(front: StudyResult, frame: pd.DataFrame) -> Convergence:
    """Return how far a study has come, from `progress`."""
    volumes = frame["hypervolume"].tolist()
    tried, possible = len({trial.key for trial in front.trials}), front.about.get("students")
    if not volumes:
        return Convergence(tried, possible, float("nan"), 0, float("nan"))
    last = min(LAST, len(volumes) - 1)
    before, after = volumes[-1 - last], volumes[-1]
    added = (after - before) / after if after and last else float("nan")
    return Convergence(tried, possible, after, last, added)


def growth(frame: pd.DataFrame) -> Plot | None:
    """Plot the hypervolume over trials from `progress`, if the teacher was measured."""
    if frame.empty:
        return None
    volumes = frame["hypervolume"]
    reached = frame.iloc[int(volumes.argmax())]
    says = (
        f"Line plot: the hypervolume reaches {significant(reached['hypervolume'])} with trial "
        f"{reached['trial']:g} and is flat from there to trial {frame['trial'].iloc[-1]}."
    )
    return plot("growth", "Hypervolume over trials", says, figures.growth(frame))


def more_trials(front: StudyResult) -> Section:
    """Return the section on convergence."""
    frame = progress(front)
    curve = growth(frame)
    words = [convergence(front, frame).sentence]
    if curve:
        words.append(
            "The curve rises when a trial improves the front. While it still rises, more trials "
            "are likely to pay."
        )
    return Section(
        "convergence", "Whether more trials would help", [*words, *([curve] if curve else [])]
    )
