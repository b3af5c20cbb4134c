"""The race in the report: curves over rungs, and agreement with longer training."""

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.fidelity import PARAMETERS, SHORT, UNTRAINED
from protege.search.analysis.result import StudyResult
from protege.search.records.goals import Goal
from protege.search.records.trial import State
from protege.search.records.wording import significant, titled
from protege.search.report.parts import Cell, Column, Plot, Table, plot
from protege.search.report.style import LIGHT, blank

WENT_ON, STOPPED = "Went on", "Stopped"


def curves(front: StudyResult) -> pd.DataFrame:
    """Return the quality of trained trials at each rung.

    Returns:
        ``trial``, ``step``, ``value`` and ``became`` (`WENT_ON` or `STOPPED`), in the order of
        trials and steps; no rows without a race.
    """
    rows = [
        (trial.number, step, value, STOPPED if trial.state is State.STOPPED else WENT_ON)
        for trial in front.trials
        if trial is not front.teacher
        for step, value in sorted(trial.curve.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "step", "value", "became"])


def rungs(front: StudyResult) -> Plot | None:
    """Plot the quality of all trials over rungs, if they raced."""
    frame = curves(front)
    if frame.empty:
        return None
    became = frame.drop_duplicates("trial")["became"].value_counts()
    stopped, went_on = became.get(STOPPED, 0), became.get(WENT_ON, 0)
    says = (
        f"Line plot: the quality of each student at its rungs. {stopped} were stopped before the "
        f"last step, {frame['step'].max()}; {went_on} went on."
    )
    quality = titled(_selecting(front))
    return plot("rungs", f"{quality} by steps of distillation", says, _drawn(frame, quality))


def trust(front: StudyResult) -> Table | None:
    """Return the agreement of each rung with a longer distillation, if measured."""
    if front.fidelity is None:
        return None
    agreements = front.fidelity.by_rung
    best = next(iter(agreements.values())).k
    columns = [Column("Step"), Column("Kendall's tau"), Column("95%", "text")]
    columns += [Column(f"Shared of the best {best}"), Column("95% of it", "text")]
    rows = [
        [
            Cell(str(step)),
            Cell(significant(one.kendall)),
            Cell("{:.2f} to {:.2f}".format(*one.kendall_interval)),
            Cell(significant(one.overlap)),
            Cell("{:.2f} to {:.2f}".format(*one.overlap_interval)),
        ]
        for step, one in agreements.items()
    ]
    return Table(columns, rows)


def rivals(front: StudyResult) -> Table | None:
    """Return how well each quality foretells its order after the longer distillation."""
    if front.fidelity is None or not front.fidelity.by_quality:
        return None
    titles = {goal.name: titled(goal) for goal in front.goals.goals}
    columns = [Column("Quality", "text"), Column("Kendall's tau"), Column("95%", "text")]
    columns += [Column("As cut and healed"), Column("More parameters")]
    rows = [
        [
            Cell(titles.get(name, name)),
            Cell(significant(of[SHORT].kendall)),
            Cell("{:.2f} to {:.2f}".format(*of[SHORT].kendall_interval)),
            Cell(significant(of[UNTRAINED].kendall)),
            Cell(significant(of[PARAMETERS].kendall)),
        ]
        for name, of in front.fidelity.by_quality.items()
    ]
    return Table(columns, rows)


def _selecting(front: StudyResult) -> Goal:
    """Return the goal by which the published rungs were selected."""
    found = (values for trial in front.trials for values in trial.rungs.values())
    name = next(iter(next(found)))
    known = {goal.name: goal for goal in front.goals.goals}
    return known.get(name, Goal(name, "", "maximize"))


def _drawn(frame: pd.DataFrame, quality: str) -> go.Figure:
    figure = blank(360)
    named: set[str] = set()
    for number, part in frame.groupby("trial"):
        became = str(part["became"].iloc[0])
        color = LIGHT.faint if became == STOPPED else LIGHT.accent
        figure.add_scatter(
            x=part["step"].tolist(),
            y=part["value"].tolist(),
            mode="lines+markers",
            line={"color": color, "width": 1.2},
            marker={"color": color, "size": 5},
            name=became,
            legendgroup=became,
            showlegend=became not in named,
            hovertemplate=f"trial {number}, step %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        named.add(became)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="Step")
    figure.update_yaxes(title_text=quality)
    return figure
