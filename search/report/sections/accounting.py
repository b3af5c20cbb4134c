"""Where the time of a study went."""

from collections.abc import Mapping

import pandas as pd

from protege.search.analysis.result import StudyResult
from protege.search.progress import PhaseTimes
from protege.search.records.wording import duration
from protege.search.report import figures
from protege.search.report.parts import Plot, plot
from protege.search.report.sections.section import Section


def times(seconds: Mapping[str, float]) -> pd.DataFrame:
    """Return ``phase``, ``seconds`` and ``share``, the longest phase first."""
    frame = pd.DataFrame(list(seconds.items()), columns=["phase", "seconds"])
    frame["share"] = frame["seconds"] / (frame["seconds"].sum() or 1.0)
    return frame.sort_values("seconds", ascending=False, ignore_index=True)


def bars(accounting: PhaseTimes) -> Plot | None:
    """Plot the time by phase, if recorded."""
    frame = times(accounting.seconds)
    if not accounting.total:
        return None
    rows = zip(frame["phase"], frame["seconds"], strict=True)
    says = "Bar chart: " + ", ".join(f"{phase} {duration(spent)}" for phase, spent in rows) + "."
    return plot("time", "Time by phase", says, figures.bars(frame))


def time_spent(front: StudyResult) -> Section | None:
    """Return the section on the time of each phase, or None if it was not recorded."""
    accounting = PhaseTimes(front.about.get("seconds", {}))
    shown = bars(accounting)
    if shown is None:
        return None
    words = (
        f"{duration(accounting.total)} in all, of which {100 * accounting.overhead:.1f}% neither "
        "measured nor trained nor evaluated."
    )
    return Section("accounting", "Where the time went", [words, shown])
