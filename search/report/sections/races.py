"""The race of the students: their quality at every rung, and what became of them."""

import pandas as pd
import plotly.graph_objects as go

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.trial import State, Trial
from protege.search.records.wording import listed, titled
from protege.search.report.parts import NotShown, Plot, plot
from protege.search.report.sections.section import Section
from protege.search.report.style import LIGHT, blank

WENT_ON, STOPPED, HARMED = "Went on", "Stopped", "Worse after training than as cut"
"""What became of a student in the race."""

DIMMED = 0.35
"""Opacity of the lines, which carry the marks and would hide each other."""

MARKS = {WENT_ON: "circle", STOPPED: "x", HARMED: "triangle-down"}
"""The symbol of the last mark of a line."""


def curves(front: StudyResult) -> pd.DataFrame:
    """Return the quality of trained trials at each rung.

    A student is `HARMED` if it went on and its quality after the last step is worse than before the
    first one.

    Returns:
        ``trial``, ``label``, ``layers``, ``step``, ``value`` and ``became`` (`WENT_ON`, `STOPPED`
        or `HARMED`), in the order of trials and steps; no rows without a race.
    """
    sign = _selecting(front).sign
    rows = [
        (trial.number, trial.label, _layers(trial), step, value, _became(trial, sign))
        for trial in front.trials
        if trial is not front.teacher
        for step, value in sorted(trial.curve.items())
    ]
    columns = ["trial", "label", "layers", "step", "value", "became"]
    return pd.DataFrame(rows, columns=columns)


def _layers(trial: Trial) -> int:
    own = trial.architecture
    return int(own["num_hidden_layers"]) + int(own.get("num_decoder_layers") or 0)


def _became(trial: Trial, sign: float) -> str:
    values = [value for _, value in sorted(trial.curve.items())]
    if trial.state is State.STOPPED:
        return STOPPED
    return HARMED if sign * values[-1] > sign * values[0] else WENT_ON


def rungs(front: StudyResult) -> Plot | None:
    """Plot the quality of all trials over rungs, if they raced."""
    frame = curves(front)
    if frame.empty:
        return None
    became = frame.drop_duplicates("trial")["became"].value_counts()
    stopped = became.get(STOPPED, 0)
    says = (
        f"Line plot: the quality of each student at its rungs. {stopped} were stopped before the "
        f"last step, {frame['step'].max()}; {became.sum() - stopped} went on, "
        f"{became.get(HARMED, 0)} of them to a worse quality than before the first step."
    )
    quality = titled(_selecting(front))
    return plot("rungs", f"{quality} by steps of distillation", says, race_figure(front, frame))


def harmed_note(front: StudyResult) -> str:
    """Return a sentence on the students that training made worse, or an empty string."""
    frame = curves(front).drop_duplicates("trial")
    worse = frame[frame["became"] == HARMED]["trial"]
    if not len(worse):
        return ""
    went_on = (frame["became"] != STOPPED).sum()
    return (
        f"Training made {len(worse)} of the {went_on} students worse that went on "
        f"({listed(worse)}). The weights of the best rung are kept, so none is published worse "
        "than it was cut; a lower learning rate may improve them."
    )


def _selecting(front: StudyResult) -> ObjectiveRecord:
    """Return the objective by which the published rungs were selected."""
    found = (values for trial in front.trials for values in trial.rungs.values())
    name = next(iter(next(found, {"quality": 0.0})))
    known = {objective.name: objective for objective in front.objectives.records}
    return known.get(name, ObjectiveRecord(name, "", "maximize"))


def race_figure(front: StudyResult, frame: pd.DataFrame) -> go.Figure:
    """Draw the lines of `curves`, coloured by depth, with what became of each at its end.

    Raises:
        NotShown: No student was scored at rungs.
    """
    if frame.empty:
        raise NotShown("No student of this study was scored at rungs.")
    figure = blank(400)
    # one trace for all lines: each ends with a gap
    points: list[tuple[float | None, float | None]] = []
    for _, own in frame.groupby("trial"):
        steps, values = own["step"].tolist(), own["value"].tolist()
        points += [*zip(steps, values, strict=True), (None, None)]
    figure.add_scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        mode="lines",
        line={"color": LIGHT.faint, "width": 1},
        opacity=DIMMED,
        hoverinfo="skip",
        showlegend=False,
    )
    last = frame.groupby("trial")["step"].transform("max") == frame["step"]
    _draw_marks(figure, frame[~last], "circle", 5, "")
    for became, symbol in MARKS.items():
        _draw_marks(figure, frame[last & (frame["became"] == became)], symbol, 10, became)
    figure.update_layout(
        showlegend=True,
        coloraxis={
            "colorscale": [[0, LIGHT.faint], [0.5, LIGHT.accent], [1, LIGHT.ink]],
            "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": "Layers"}},
        },
    )
    figure.update_xaxes(title_text="Step")
    figure.update_yaxes(title_text=plotted(titled(_selecting(front))))
    return figure


def _draw_marks(
    figure: go.Figure, part: pd.DataFrame, symbol: str, size_px: int, name: str
) -> None:
    """Draw students at a rung, if there are any; without a name they are not in the legend."""
    if part.empty:
        return
    figure.add_scatter(
        x=part["step"].tolist(),
        y=part["value"].tolist(),
        customdata=[
            f"<b>{plotted(row.label)}</b><br>{plotted(str(row.became).lower())}"
            for row in part.itertuples()
        ],
        mode="markers",
        marker={
            "color": part["layers"].tolist(),
            "coloraxis": "coloraxis",
            "size": size_px,
            "symbol": symbol,
        },
        showlegend=False,
        hovertemplate="%{customdata}<br>step %{x}: %{y:.4f}<extra></extra>",
    )
    if name:
        # a trace of its own: Plotly takes a number on the colour scale for a colour in a legend
        marker = {"color": LIGHT.ink, "size": size_px, "symbol": symbol}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)


def races(front: StudyResult) -> Section | None:
    """Return the section on the race, or None if no student was scored at rungs."""
    shown: Plot | None = rungs(front)
    if shown is None:
        return None
    words = (
        "Each line is a student, scored at every rung that it reached. A student was stopped if "
        "enough others ranked strictly better at the same rung, by non-dominated rank in all "
        "objectives. The colour shows its number of layers."
    )
    note = harmed_note(front)
    return Section("races", "How students raced", [words, shown, *([note] if note else [])])
