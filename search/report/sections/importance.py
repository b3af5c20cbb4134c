"""The importance of each size for each objective."""

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.result import StudyResult
from protege.search.analysis.size_model import ENOUGH, free_sizes
from protege.search.records.plain import plotted
from protege.search.records.wording import SIZES, titled
from protege.search.report.figures import percent
from protege.search.report.parts import NotShown, plot
from protege.search.report.sections.section import Section
from protege.search.report.style import LIGHT, stacked
from protege.search.study.importance import importances

BAR_PX = 26

FEW = 50
"""Students below which the best ones are so few that the importances are rough."""


def importance(front: StudyResult) -> pd.DataFrame:
    """Return the importance of each size for the best values of each objective.

    Only finished students count: the values of a stopped trial are those of little training. See
    `protege.search.study.importance` for the method.

    Returns:
        ``objective``, ``size`` and ``importance``, which sums to 1 for each objective; the most
        important size first.

    Raises:
        NotShown: Too few students were finished, or all have the same sizes.
    """
    done = front.finished
    names = free_sizes(done)
    if len(done) < ENOUGH or not names:
        raise NotShown(
            f"The importance of sizes needs {ENOUGH} finished students of different sizes; this "
            f"study has {len(done)}."
        )
    sizes = [{name: int(trial.architecture.get(name) or 0) for name in names} for trial in done]
    rows = []
    for objective in front.objectives.records:
        values = [trial.measurements[objective.name].value for trial in done]
        found = importances(sizes, values, objective.direction)
        ordered = sorted(found.items(), key=lambda one: -one[1])
        rows += [(objective.name, name, share) for name, share in ordered]
    return pd.DataFrame(rows, columns=["objective", "size", "importance"])


def figure(front: StudyResult, frame: pd.DataFrame) -> go.Figure:
    """Draw the bars of `importance`, one panel for each objective."""
    names = list(dict.fromkeys(frame["objective"]))
    titles = {one.name: plotted(titled(one)) for one in front.objectives.records}
    heights = [BAR_PX * int((frame["objective"] == name).sum()) for name in names]
    drawn = stacked([titles[name] for name in names], heights, 44, 60)
    for row, name in enumerate(names, start=1):
        part = frame[frame["objective"] == name]
        drawn.add_bar(
            x=part["importance"].tolist(),
            y=[SIZES[size] for size in part["size"]],
            text=[percent(share) for share in part["importance"]],
            textposition="outside",
            cliponaxis=False,
            orientation="h",
            hoverinfo="skip",
            marker={"color": LIGHT.accent},
            row=row,
            col=1,
        )
    # space for the text of the longest bar
    drawn.update_xaxes(visible=False, range=[0, 1.2])
    drawn.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    drawn.update_layout(margin={"t": 40})
    return drawn


def importances_shown(front: StudyResult) -> Section:
    """Return the section with the importance of the sizes."""
    title = "Which sizes matter"
    try:
        frame = importance(front)
    except NotShown as why:
        return Section("importance", title, [str(why)])
    told = []
    for objective in front.objectives.records:
        part = frame[frame["objective"] == objective.name]
        shares = ", ".join(
            f"{SIZES[size]} {share:.0%}"
            for size, share in zip(part["size"], part["importance"], strict=True)
        )
        told.append(f"{titled(objective)}: {shares}.")
    says = "Bar chart of the importance of each size. " + " ".join(told)
    count = len(front.finished)
    rough = "; of so few, the shares are rough" if count < FEW else ""
    words = (
        "How much each size decides whether a student is among the best in an objective, as shares "
        f"that sum to 100% (PED-ANOVA). Only the {count} finished students count{rough}."
    )
    shown = plot("importance-bars", "Importance of sizes", says, figure(front, frame))
    return Section("importance", title, [words, shown])
