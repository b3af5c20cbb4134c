"""The latency model in the report: predictions against measurements, and marginal costs."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from protege.objectives.latency.predictor.model import (
    CREDIBLE,
    ENOUGH,
    STEPS,
    LatencyModel,
    recorded,
)
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.plain import plotted
from protege.search.records.trial import Trial
from protege.search.records.wording import significant, titled
from protege.search.report.parts import Cell, NotShown, Plot, Table, TableColumn, plot
from protege.search.report.sections.section import Block, Captioned
from protege.search.report.style import LIGHT, blank, draw_trials

ONE_MORE = {
    "num_hidden_layers": "layer",
    "num_decoder_layers": "decoder layer",
    "hidden_size": f"{STEPS['hidden_size']} channels of the hidden size",
    "num_attention_heads": "query head",
    "num_key_value_heads": "KV head",
    "intermediate_size": f"{STEPS['intermediate_size']} feed-forward neurons",
    "moe_intermediate_size": f"{STEPS['moe_intermediate_size']} neurons of each expert",
    "vocab_size": f"{STEPS['vocab_size']:,} tokens of the vocabulary",
}
"""The steps of `STEPS` in words."""


class LatencyBreakdown(NamedTuple):
    """The report on one latency: the accuracy of its model, and marginal costs of sizes."""

    plot: Plot
    caption: str
    costs: Table


def latency_breakdowns(front: StudyResult) -> list[LatencyBreakdown]:
    """Return the report on each latency with enough measurements for a model."""
    found = []
    for objective in front.objectives.records:
        model = front.estimates.latency_models.get(objective.name)
        if model is not None:
            frame = held_out(front, model)
            words = caption(frame)
            title = f"{titled(objective)}, predicted and measured"
            says = f"Scatter plot of {len(frame)} students. {words}"
            shown = plot(f"made-of-{objective.name}", title, says, figure(frame, objective))
            found.append(LatencyBreakdown(shown, words, costs(front, objective, model)))
    return found


def modelled(
    front: StudyResult, objective: ObjectiveRecord | None
) -> tuple[ObjectiveRecord, LatencyModel]:
    """Return a latency, by default the first one that has a model, and its model.

    Raises:
        NotShown: It has no model.
    """
    for one in [objective] if objective else front.objectives.records:
        model = front.estimates.latency_models.get(one.name)
        if model is not None:
            return one, model
    raise NotShown(f"A model of latency needs {ENOUGH} measured students of different sizes.")


def held_out(front: StudyResult, model: LatencyModel) -> pd.DataFrame:
    """Return the leave-one-out prediction for every measured set of sizes.

    Returns:
        ``trial`` (the first of these sizes), ``measured``, ``predicted``, ``error``
        (relative), ``on_front`` and ``hover``.
    """
    first: dict[str, Trial] = {}
    for trial in front.trials:
        if not trial.other_family:  # the model is of the teacher's family alone
            first.setdefault(recorded(trial.architecture).key(), trial)
    cut = (trial for trial in front.members if not trial.other_family)
    members = {recorded(trial.architecture).key() for trial in cut}
    rows = []
    for (architecture, value), error in zip(model.samples, model.leave_one_out(), strict=True):
        trial, predicted = first[architecture.key()], value * (1 + error)
        hover = (
            f"<b>{plotted(trial.label)}</b><br>measured {significant(value)}, "
            f"predicted {significant(predicted)} ({error:+.1%})"
        )
        on_front = architecture.key() in members
        rows.append((trial.number, value, predicted, error, on_front, hover))
    columns = ["trial", "measured", "predicted", "error", "on_front", "hover"]
    return pd.DataFrame(rows, columns=columns).sort_values("measured", ignore_index=True)


def caption(frame: pd.DataFrame) -> str:
    """Describe the prediction errors in words."""
    off = frame["error"].abs()
    return (
        f"Each student is predicted from the {len(frame) - 1} others. The mean error is "
        f"{off.mean():.1%}; {CREDIBLE:.0%} are within {off.quantile(CREDIBLE):.1%}."
    )


def figure(frame: pd.DataFrame, objective: ObjectiveRecord) -> go.Figure:
    """Plot predictions over measurements, from `held_out`."""
    drawn = blank(400)
    both = frame[["measured", "predicted"]].to_numpy()
    ends = [float(both.min()), float(both.max())]
    line = {"color": LIGHT.soft, "width": 1.5, "dash": "dash"}
    drawn.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    names = ("measured", "predicted", "hover")
    draw_trials(drawn, frame, names, "%{customdata}<extra></extra>")
    name = plotted(titled(objective))
    drawn.update_xaxes(title_text=f"{name}, measured")
    drawn.update_yaxes(title_text=f"{name}, predicted from the others")
    drawn.update_layout(showlegend=True)
    return drawn


def costs(front: StudyResult, objective: ObjectiveRecord, model: LatencyModel) -> Table:
    """Return the marginal cost of each size, at the teacher and at the fastest cut student."""
    teacher = front.about["teacher"]["architecture"]
    places = {"At the teacher": recorded(teacher)}
    fastest = min(
        (one for one in front.students if not one.other_family),
        key=lambda trial: trial.measurements[objective.name].value,
        default=None,
    )
    if fastest is not None:
        at = f"At {fastest.label}, the fastest on the front"
        places[at] = recorded(fastest.architecture)
    found = [model.one_more(place) for place in places.values()]
    totals = [model.predict(place)[0] for place in places.values()]
    columns = [TableColumn("One more", "text")]
    columns += [TableColumn(f"{place} ({objective.unit})") for place in places]
    rows = [
        [Cell(words), *(_cost(one, size, all_) for one, all_ in zip(found, totals, strict=True))]
        for size, words in ONE_MORE.items()
        if any(size in one for one in found)
    ]
    return Table(columns, rows)


def _cost(found: Mapping[str, float], size: str, total: float) -> Cell:
    """Format a cost and its share of the latency; ``-`` without a cost."""
    cost = found.get(size)
    return Cell("-" if cost is None else f"{significant(cost)} ({cost / total:.1%})")


def explained(front: StudyResult) -> list[Block]:
    """Return plot, caption and costs of each latency that has a model."""
    blocks: list[Block] = []
    for found in latency_breakdowns(front):
        blocks.append(
            "A model of latency is learned from the measured students: a fixed time for each call, "
            "and a share for each layer, for operations and for memory traffic. A candidate is not "
            "measured if the model puts it over a limit by more than its error; on the front every "
            "figure is measured."
        )
        blocks.append(found.plot)
        blocks.append(
            f"{found.caption} The table shows what one more of each size costs, and its share of "
            "the latency there."
        )
        caption = f"What one more of each size costs: {found.plot.title}"
        blocks.append(Captioned(caption, found.costs))
    return blocks
