"""Confirm a student: measure it again from its exported files."""

from collections.abc import Sequence
from pathlib import Path

from protege.objectives import Candidate, Objective
from protege.objectives.measurement import Stage
from protege.objectives.objective import Confirmed, JudgedOnUnseen
from protege.spaces import Student, Teacher
from protege.spaces.files.manifest import kept_tokens
from protege.spaces.students.selection import Selection


def confirmed(objectives: Sequence[Objective], own: Candidate, folder: Path) -> dict[str, float]:
    """Measure each objective on the exported student.

    Objectives that judge students are also measured on examples that the search never saw, under
    their name with the prefix ``unseen_``. Further values of an objective, such as a latency's
    speedup, are those of the first objective that has them.

    Returns:
        Values by name.
    """
    figures: dict[str, float] = {}
    exported = _exported(own, folder)
    for objective in objectives:
        if isinstance(objective, Confirmed):
            figures = {**objective.confirm(own, folder), **figures}
        else:
            figures[objective.name] = objective.measure(exported).value
        if objective.stage is Stage.STUDENT and isinstance(objective, JudgedOnUnseen):
            unseen = objective.measure_unseen(exported)
            if unseen is not None:
                figures[f"unseen_{objective.name}"] = unseen.value
    return figures


def _exported(own: Candidate, folder: Path) -> Candidate:
    """Return the student in a folder as a candidate."""
    loaded = Teacher.load(folder, task=own.teacher.task)
    student = Student(
        model=loaded.model,
        processor=loaded.processor,
        architecture=loaded.architecture,
        kept=Selection((), {}, kept_tokens(folder)),
        embedder=loaded.embedder(),
    )
    return Candidate(own.prepared, loaded.architecture).holding(student)
