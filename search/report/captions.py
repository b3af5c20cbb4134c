"""What is said under the plot of the front: its marks, its error bars, and the ties."""

from collections.abc import Collection

from protege.objectives.latency import ERROR_FLOOR
from protege.search.analysis.choosing import timed
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.wording import FLOOR, listed, titled
from protege.search.report.views import confirmations


def plot_notes(front: StudyResult) -> list[str]:
    """Return the sentences under the plot of the front."""
    precisions = [f"{note[0].upper()}{note[1:]}." for note in front.precision_notes]
    found = [_marks(front), *_bars(front), *precisions, _ties(front)]
    return [said for said in found if said]


def _marks(front: StudyResult) -> str:
    """Say what the points and lines are."""
    others = any(trial.other_family for trial in front.members)
    colours = "blue point, or one in the colour of another family," if others else "blue point"
    said = (
        f"A {colours} is a student on the front: no other trial is better in one objective and no "
        "worse in the rest. The line is the border of what was reached."
    )
    if len(front.objectives.records) > 2:
        said += (
            " With more than two objectives a student may be on the front and off the line: it is "
            "then better in an objective that is not on these axes."
        )
    if timed(front) and front.teacher:
        said += " Dotted lines mark multiples of the teacher's speed."
    if confirmations(front):
        said += (
            " Triangles are students measured again from their exported files, judged on "
            "examples that the search never saw where there are such, each joined to its point."
        )
    return said


def _bars(front: StudyResult) -> list[str]:
    """Say what the error bars of each objective are."""
    found = [_bar(front, one) for one in front.objectives.records]
    said = [one for one in found if one]
    return ["Bars are one standard error. " + " ".join(said)] if said else []


def _bar(front: StudyResult, objective: ObjectiveRecord) -> str:
    measured = {trial.number: trial.measurements[objective.name] for trial in front.members}
    noisy = {number: one for number, one in measured.items() if one.spread > 0}
    if not noisy:
        return ""
    title = titled(objective)
    counts = {len(one.examples) for one in noisy.values()}
    if len(counts) == 1 and max(counts) > 1:
        return (
            f"{title}: of the mean over {max(counts)} held-out examples; students are compared "
            "example by example (paired bootstrap), which tells apart what overlapping bars do not."
        )
    floors = {number: one for number, one in noisy.items() if ERROR_FLOOR in one.details}
    if not floors:
        return f"{title}: the error by which students are compared."
    shares = " and ".join(sorted({str(one.details[ERROR_FLOOR]) for one in floors.values()}))
    which = _which(floors, noisy)
    return (
        f"{title}: the error by which students are compared, between measuring processes; it is at "
        f"least {shares}, and that {FLOOR} holds for {which}."
    )


def _which(some: Collection[int], every: Collection[int]) -> str:
    """Name some of the trials on the front in few words."""
    rest = [number for number in every if number not in some]
    if not rest:
        return "all"
    return f"all but {listed(rest)}" if len(rest) < len(some) else listed(some)


def _ties(front: StudyResult) -> str:
    """Say which students no objective tells apart."""
    groups = [
        f"t{number} and {listed(later)}"
        for number, others in front.ties.items()
        if (later := [other for other in others if other > number])
    ]
    said = f"Tied, as no objective tells them apart: {'; '.join(groups)}. " if groups else ""
    if front.tied_with_front:
        pairs = "; ".join(f"{listed([n])} with {listed(of)}" for n, of in _few(front))
        said += f"Dominated by value, yet tied with a student on the front: {pairs}. "
    if front.dominated:
        said += "A hollow blue point is on the front by less than noise: see the table."
    return said.strip()


def _few(front: StudyResult, most: int = 8) -> list[tuple[int, list[int]]]:
    return list(front.tied_with_front.items())[:most]
