"""The sizes of students along the front."""

import pandas as pd

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import State
from protege.search.records.wording import SIZES, titled
from protege.search.report import figures
from protege.search.report.parts import NotShown, Plot, plot
from protege.search.report.sections.section import Section, joined


def sizes(front: StudyResult, x: ObjectiveRecord) -> pd.DataFrame:
    """Return the sizes of complete trials, ordered by one objective.

    Returns:
        ``trial``, ``x``, ``on_front``, and those `SIZES` in which trials differ. Heads are left out
        if they are proportional to the hidden size.
    """
    members = {trial.number for trial in front.members}
    done = [trial for trial in front.trials if trial.state is State.COMPLETE]
    rows = [
        {"trial": t.number, "x": t.measurements[x.name].value, "on_front": t.number in members}
        | {name: t.architecture.get(name) for name in SIZES}
        for t in done
    ]
    frame = pd.DataFrame(rows, columns=["trial", "x", "on_front", *SIZES])
    kept = [n for n in SIZES if len(frame[n].unique()) > 1 and not _follows(frame, n)]
    return frame[["trial", "x", "on_front", *kept]].sort_values("x", ignore_index=True)


def along(front: StudyResult) -> tuple[pd.DataFrame, ObjectiveRecord]:
    """Return the sizes of complete trials over the first minimised objective.

    Raises:
        NotShown: All complete trials have the same sizes.
    """
    own = front.objectives.records
    x = next((one for one in own if one.direction == "minimize"), own[0])
    frame = sizes(front, x)
    if len(frame.columns) == 3:
        raise NotShown("All complete trials have the same sizes.")
    return frame, x


def composition(front: StudyResult) -> Plot | None:
    """Plot the sizes over the first minimised objective, if trials differ in any size."""
    try:
        frame, x = along(front)
    except NotShown:
        return None
    names = list(frame.columns[3:])
    words = joined(SIZES[name] for name in names)
    says = f"One scatter plot each for {words}, over {titled(x)}; the table holds the same sizes."
    title = f"Sizes along {titled(x)}"
    return plot("sizes", title, says, figures.composition(frame, x))


def made_of(front: StudyResult) -> Section | None:
    """Return the section on the sizes along the front, or None if all have the same."""
    shown = composition(front)
    if shown is None:
        return None
    words = (
        "Each panel shows one size or policy along the front, over the same axis. Grey points are "
        "the other complete trials."
    )
    return Section("composition", "What students are made of", [words, shown])


def _follows(frame: pd.DataFrame, name: str) -> bool:
    """Return whether heads are proportional to the hidden size or to other heads."""
    leaders = {
        "num_attention_heads": ["hidden_size"],
        "num_key_value_heads": ["hidden_size", "num_attention_heads"],
    }
    return any(len((frame[name] / frame[lead]).unique()) == 1 for lead in leaders.get(name, ()))
