"""The samples of each measured latency, as box plots."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.wording import significant, titled
from protege.search.report.parts import NotShown, Plot, plot
from protege.search.report.sections.section import Block
from protege.search.report.style import LIGHT, blank

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Whiskers, box and median."""

ENDS = ("low", "lower", "middle", "upper", "high")
"""Names of the quantiles."""

RATIO = "ratio_to_teacher"
"""The detail of a measurement whose samples are relative to the teacher's."""

MOST = 40
"""Students that are drawn, those of the front first."""

ROW_PX = 20


def distributions(front: StudyResult, objective: ObjectiveRecord) -> pd.DataFrame:
    """Return quantiles of the samples of a latency, the fastest student first.

    Each sample is the time of a student's call, relative to the teacher's call beside it.

    Returns:
        ``trial``, ``label``, ``on_front``, ``samples`` (their number), ``low``, ``lower``,
        ``middle``, ``upper`` and ``high`` (`QUANTILES`), and ``value``, the published latency.

    Raises:
        NotShown: The objective has no samples of calls.
    """
    members = {trial.number for trial in front.members}
    rows = []
    for trial in front.trials:
        found = trial.measurements.get(objective.name)
        if found and found.samples and RATIO in found.details:
            quantiles = np.quantile(found.samples, QUANTILES)
            own = (trial.number, trial.label, trial.number in members, len(found.samples))
            rows.append((*own, *quantiles.tolist(), found.value))
    if not rows:
        raise NotShown(f"{titled(objective)} was measured without samples of single calls.")
    columns = ["trial", "label", "on_front", "samples", *ENDS, "value"]
    return pd.DataFrame(rows, columns=columns).sort_values("middle", ignore_index=True)


def sampled(front: StudyResult) -> ObjectiveRecord:
    """Return the first objective that was measured in samples of calls.

    Raises:
        NotShown: There is none.
    """
    for one in front.objectives.records:
        known = [trial.measurements.get(one.name) for trial in front.trials]
        if any(found and found.samples and RATIO in found.details for found in known):
            return one
    raise NotShown("No objective of this study was measured in samples of single calls.")


def drawn_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST` rows, those on the front first, the fastest first."""
    ordered = frame.sort_values("on_front", ascending=False, kind="stable").head(MOST)
    return ordered.sort_values("middle", ignore_index=True)


def figure(frame: pd.DataFrame, objective: ObjectiveRecord) -> go.Figure:
    """Draw a box for each student of `distributions`."""
    rows = drawn_rows(frame)
    drawn = blank(ROW_PX * len(rows) + 90)
    for on_front, color, name in (
        (True, LIGHT.accent, "Front"),
        (False, LIGHT.faint, "Other trials"),
    ):
        part = rows[rows["on_front"] == on_front]
        if len(part):
            drawn.add_box(
                y=[f"t{number}" for number in part["trial"]],
                lowerfence=part["low"].tolist(),
                q1=part["lower"].tolist(),
                median=part["middle"].tolist(),
                q3=part["upper"].tolist(),
                upperfence=part["high"].tolist(),
                orientation="h",
                name=name,
                line={"color": color, "width": 1.5},
                fillcolor=LIGHT.grid,
                showlegend=True,
                hoverinfo="skip",
            )
    drawn.add_scatter(
        x=rows["middle"].tolist(),
        y=[f"t{number}" for number in rows["trial"]],
        customdata=[_hover(row, objective) for row in rows.to_dict("records")],
        mode="markers",
        marker={"size": 12, "color": LIGHT.ink, "opacity": 0},  # invisible; carries the hover
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    order = [f"t{number}" for number in rows["trial"]]
    drawn.update_yaxes(categoryorder="array", categoryarray=order, autorange="reversed", dtick=1)
    drawn.update_xaxes(title_text="Time of a call, relative to the teacher", tickformat=".0%")
    drawn.update_layout(showlegend=True, boxmode="overlay")
    return drawn


def spread_of_calls(front: StudyResult) -> list[Block]:
    """Return the plots of the distributions of each latency, with an explanation."""
    words = (
        "Each box holds half of the calls of a student, its line is the median, and the whiskers "
        "reach over 90% of the calls. A call is timed beside one of the teacher."
    )
    plots: list[Block] = []
    for objective in front.objectives.records:
        with suppress(NotShown):
            plots.append(_plotted(distributions(front, objective), objective))
    return [words, *plots] if plots else []


def _plotted(frame: pd.DataFrame, objective: ObjectiveRecord) -> Plot:
    width = (frame["high"] / frame["low"]).median() - 1
    says = (
        f"Box plots of the calls of {len(frame)} students, relative to the teacher. From the "
        f"fastest to the slowest the median goes from {frame['middle'].iloc[0]:.0%} to "
        f"{frame['middle'].iloc[-1]:.0%}; the middle 90% of a student's calls typically span "
        f"{width:.0%}."
    )
    title = f"{titled(objective)}: single calls"
    return plot(f"calls-{objective.name}", title, says, figure(frame, objective))


def _hover(row: Mapping[Any, Any], objective: ObjectiveRecord) -> str:
    return (
        f"<b>{plotted(row['label'])}</b><br>{plotted(titled(objective))} "
        f"{significant(row['value'])}<br>median {row['middle']:.1%}, half of the "
        f"{row['samples']} samples from {row['lower']:.1%} to {row['upper']:.1%},<br>90% from "
        f"{row['low']:.1%} to {row['high']:.1%} of the teacher's time"
    )
