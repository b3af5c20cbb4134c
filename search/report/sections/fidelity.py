"""Whether the short distillation of the search ranks students as a longer one does."""

from protege.search.analysis.fidelity import PARAMETERS, SHORT, UNTRAINED
from protege.search.analysis.result import StudyResult
from protege.search.records.wording import significant, titled
from protege.search.report.parts import Cell, Table, TableColumn
from protege.search.report.sections.section import Block, Captioned, Command, Section


def trust(front: StudyResult) -> Table | None:
    """Return the agreement of each rung with a longer distillation, if measured."""
    if front.fidelity is None:
        return None
    agreements = front.fidelity.by_rung
    best = next(iter(agreements.values())).k
    columns = [TableColumn("Step"), TableColumn("Kendall's tau"), TableColumn("95%", "text")]
    columns += [TableColumn(f"Shared of the best {best}"), TableColumn("95% of it", "text")]
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
    titles = {one.name: titled(one) for one in front.objectives.records}
    columns = [
        TableColumn("Quality", "text"),
        TableColumn("Kendall's tau"),
        TableColumn("95%", "text"),
    ]
    columns += [TableColumn("As cut and healed"), TableColumn("More parameters")]
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


def proxy_fidelity(front: StudyResult) -> Section | None:
    """Return the section on the agreement with a longer distillation; None without any."""
    title = "Whether the short distillation can be trusted"
    found = front.fidelity
    if found is None:
        if not any(trial.rungs or trial.training for trial in front.trials):
            return None
        words = (
            "Not checked: nobody distilled students of this study for longer. To train some of "
            "them eight times as long and compare their order, run this with the study's file:"
        )
        return Section("fidelity", title, [words, Command("protege fidelity STUDY.py")])
    words = (
        f"{len(found.runs)} students were distilled {found.times:g} times as long. Kendall's tau "
        "is 1 if their order is the same as at the rung, 0 if the two are unrelated."
    )
    blocks: list[Block] = [words]
    if by_rung := trust(front):
        blocks.append(Captioned("Agreement of rungs with a longer distillation", by_rung))
    if by_quality := rivals(front):
        blocks.append(
            "The same for each quality, beside two orders that cost no training: that of the "
            "students as cut and healed, and that of their numbers of parameters. The distillation "
            "pays where its agreement is above the other two."
        )
        caption = "Agreement of qualities and their rivals with a longer distillation"
        blocks.append(Captioned(caption, by_quality))
    return Section("fidelity", title, blocks)
