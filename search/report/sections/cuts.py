"""Depth against width: what a cut of the layers, of the width or of both costs in this study."""

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any, NamedTuple

import pandas as pd

from protege.search.analysis.estimates import DEPTHS, WIDTHS
from protege.search.analysis.result import StudyResult
from protege.search.analysis.size_model import ENOUGH
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import Trial
from protege.search.records.wording import SIZES, significant, titled
from protege.search.report.parts import Cell, NotShown, Table, TableColumn
from protege.search.report.sections.section import Captioned, Section, joined

NEAR = 0.05
"""A student is at a cut if every size is within this share of the teacher's size."""


class Cut(NamedTuple):
    """One way to make a model smaller, with the rule of thumb that people go by."""

    title: str
    depth: float
    width: float
    kept: str
    faster: str


CUTS = (
    Cut("50% of the layers", 0.5, 1.0, "96-98%", "60-70%"),
    Cut("50% of the width", 1.0, 0.5, "92-96%", "40-50%"),
    Cut("30% of both", 0.7, 0.7, "94-98%", "50-60%"),
)
"""The cuts of the table."""


def cuts(front: StudyResult, latency: ObjectiveRecord | None) -> pd.DataFrame:
    """Return what each of `CUTS` costs in a study.

    A student at a cut has its measured values. Otherwise `Estimates` interpolates between the
    finished students and the teacher, never beyond the sizes that were tried.

    Args:
        front: The study.
        latency: The objective that the speedup comes from, if any.

    Returns:
        ``cut``; ``trial`` (NaN if none is there); ``sizes`` (by name, the student's or those
        asked); for each objective its value and ``..._error``; ``speedup``; and ``source``, where
        the values are from or why there are none. Values are NaN without a source.

    Raises:
        NotShown: The study did not search depth and width, or its teacher is unknown.
    """
    own = front.about.get("teacher", {}).get("architecture")
    models = front.estimates
    names = models.sizes
    if not own or not set(names) & {*DEPTHS} or not set(names) & {*WIDTHS}:
        raise NotShown("This study did not finish students of several depths and several widths.")
    return pd.DataFrame([_row(front, latency, cut, _asked(own, cut, names)) for cut in CUTS])


def depth_or_width(front: StudyResult, latency: ObjectiveRecord | None) -> Section:
    """Return the section with the table of cuts."""
    objectives = front.objectives.records
    try:
        frame = cuts(front, latency)
    except NotShown as why:
        return Section("cuts", "Fewer layers or a smaller width", [str(why)])
    own = front.about["teacher"]["architecture"]
    columns = [TableColumn("Removed", "text"), TableColumn("Student", "text")]
    columns += [TableColumn(titled(one)) for one in objectives]
    columns += [TableColumn("Times faster"), TableColumn("Values", "text")]
    columns += [TableColumn("Rule of thumb", "text")]
    rows = []
    for cut, row in zip(CUTS, frame.to_dict("records"), strict=True):
        sizes = ", ".join(
            f"{SIZES[name]} {size:.0f}" for name, size in row["sizes"].items() if size != own[name]
        )
        values = [_value(front, one, row) for one in objectives]
        said = f"{cut.kept} kept, {cut.faster} faster"
        cells = [Cell(significant(row["speedup"])), Cell(row["source"]), Cell(said)]
        rows.append([Cell(cut.title), Cell(sizes), *values, *cells])
    words = (
        "What it cost in this study to remove layers, width or both, beside the rule of thumb that "
        "is often quoted for it. Width is "
        f"{joined(SIZES[name] for name in frame['sizes'][0] if name in WIDTHS)}. A percentage is "
        "the share of the teacher's value. A row without a student at its sizes is interpolated by "
        "the models of latency and of sizes; its error is that of the models."
    )
    table = Captioned("Cuts of depth and width", Table(columns, rows))
    return Section("cuts", "Fewer layers or a smaller width", [words, table])


def _asked(own: Mapping[str, Any], cut: Cut, names: Sequence[str]) -> dict[str, float]:
    """Return the sizes at a cut: whole layers, exact shares of widths, others the teacher's."""
    found: dict[str, float] = {}
    for name in names:
        size = float(own.get(name) or 0)
        if name in DEPTHS:
            size = max(1.0, float(int(size * cut.depth + 0.5)))
        elif name in WIDTHS:
            size *= cut.width
        found[name] = size
    return found


def _row(
    front: StudyResult, latency: ObjectiveRecord | None, cut: Cut, asked: Mapping[str, float]
) -> dict[str, Any]:
    own = front.about["teacher"]["architecture"]

    def away(trial: Trial) -> float:
        shares = [abs(trial.architecture[n] - size) / (own[n] or 1) for n, size in asked.items()]
        return float(max(shares))

    nearest = min(front.cut, key=away, default=None)
    row: dict[str, Any] = {"cut": cut.title, "trial": nan, "sizes": dict(asked)}
    if nearest is not None and away(nearest) <= NEAR:
        row |= {"trial": nearest.number, "sizes": {n: nearest.architecture[n] for n in asked}}
        for name in front.objectives.names:
            found = nearest.measurements[name]
            row |= {name: found.value, f"{name}_error": found.spread}
        return row | {"speedup": nearest.speedup, "source": f"measured, t{nearest.number}"}
    row |= {part: nan for n in front.objectives.names for part in (n, f"{n}_error")}
    row["speedup"] = nan
    if why := _beyond(asked, front.estimates.known):
        return row | {"source": why}
    for one in front.objectives.records:
        ((row[one.name], row[f"{one.name}_error"]),) = front.estimates.estimate(one, [asked])
    if latency and front.teacher:
        row["speedup"] = front.teacher.measurements[latency.name].value / row[latency.name]
    return row | {"source": "interpolated"}


def _beyond(asked: Mapping[str, float], trials: Sequence[Trial]) -> str:
    """Say why nothing can be interpolated at some sizes; empty if it can."""
    if len(trials) < ENOUGH:
        return f"not tried, and {len(trials)} finished models are too few to interpolate"
    for name, size in asked.items():
        tried = [trial.architecture[name] for trial in trials]
        low, high = min(tried), max(tried)
        if not low <= size <= high:
            return f"not tried: {SIZES[name]} {low} to {high} were finished"
    return ""


def _value(front: StudyResult, objective: ObjectiveRecord, row: Mapping[Any, Any]) -> Cell:
    """Return a value as ``0.876 (88%)`` with its error."""
    value, error = row[objective.name], row[f"{objective.name}_error"]
    if not isfinite(value):
        return Cell("-")
    whole = front.teacher.measurements[objective.name].value if front.teacher else 0.0
    share = f" ({value / whole:.0%})" if whole > 0 else ""
    return Cell(significant(value) + share, significant(error, 2) if error > 1e-9 else "")
