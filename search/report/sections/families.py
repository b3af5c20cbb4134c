"""Which family of models holds the front, and at which budgets."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecord
from protege.search.records.trial import State, Trial
from protege.search.records.wording import significant, titled
from protege.search.report.parts import Cell, Table, TableColumn
from protege.search.report.sections.section import Captioned, Points, Section
from protege.search.report.views import pairs


def families(front: StudyResult) -> Section | None:
    """Return the section on families; None if all students are of the teacher's own."""
    found = by_family(front)
    if len(found) < 2:
        return None
    words = (
        "Students of several families were tried. Those of the teacher's own are cut from it; the "
        "others take embeddings, norms and heads from it and are drawn at random otherwise, so "
        "that they gain more from a longer training."
    )
    lines = [line for x, y in pairs(front.objectives.records) for line in holders(front, x, y)]
    table = Captioned("Trials and front by family", _table(front, found))
    return Section("families", "Which family holds the front", [words, Points(lines), table])


def by_family(front: StudyResult) -> dict[str, list[Trial]]:
    """Return the students of each family, without teacher and naive half."""
    found: dict[str, list[Trial]] = {}
    for trial in front.trials:
        if not front.role(trial):
            found.setdefault(family_of(trial), []).append(trial)
    return found


def family_of(trial: Trial) -> str:
    """Return the family of a student."""
    return str(trial.architecture["model_type"])


def holders(front: StudyResult, x: ObjectiveRecord, y: ObjectiveRecord) -> Iterator[str]:
    """Say for each range of one objective which family has the best student by another."""
    steps = best_within(front.students, x, y)
    for family, held in groupby(steps, key=family_of):
        of = [*held]
        first, last = of[0], of[-1]
        values = " to ".join(
            dict.fromkeys(significant(one.measurements[x.name].value) for one in (first, last))
        )
        best = significant(last.measurements[y.name].value)
        yield f"{family}: {titled(x)} {values}, {titled(y).lower()} up to {best} (t{last.number})."


def best_within(students: Sequence[Trial], x: ObjectiveRecord, y: ObjectiveRecord) -> list[Trial]:
    """Return the students that are best by ``y`` within some budget of ``x``, tightest first."""
    ahead, towards = (1 if one.direction == "minimize" else -1 for one in (x, y))
    ordered = sorted(
        students,
        key=lambda one: (ahead * one.measurements[x.name].value, one.number),
    )
    found: list[Trial] = []
    for one in ordered:
        value = towards * one.measurements[y.name].value
        if not found or value < towards * found[-1].measurements[y.name].value:
            found.append(one)
    return found


def _table(front: StudyResult, found: dict[str, list[Trial]]) -> Table:
    columns = [TableColumn("Family", "text"), TableColumn("Trials"), TableColumn("Stopped early")]
    columns += [TableColumn("On the front")]
    columns += [TableColumn(f"Best {titled(one).lower()}") for one in front.objectives.records]
    on_front = {one.number for one in front.students}
    rows = []
    for family, trials in found.items():
        done = [one for one in trials if one.state is State.COMPLETE]
        best = [
            (min if one.direction == "minimize" else max)(
                trial.measurements[one.name].value for trial in done
            )
            if done
            else None
            for one in front.objectives.records
        ]
        counts = [len(trials), len(trials) - len(done), sum(t.number in on_front for t in trials)]
        shown = [Cell("-" if value is None else significant(value)) for value in best]
        rows.append([Cell(family), *(Cell(str(one)) for one in counts), *shown])
    return Table(columns, rows)
