"""Start the full training of a student, from a study or from the student's folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from protege.objectives import Examples
from protege.search.handover.declared import Declared, data_in, settings_of
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.search.handover.training import FullTraining
from protege.spaces import BadInput, Cache, Teacher


@dataclass(frozen=True)
class DataFile:
    """A file or folder of data, to be read once the teacher is known.

    Attributes:
        path: The file, or for images and speech the folder.
        text: The column of the texts.
        label: The column of the labels; by default ``label``, if there is one.
        pair: The column of the second text of each pair.
    """

    path: Path
    text: str = "text"
    label: str | None = None
    pair: str | None = None

    def read(self, teacher: Teacher) -> Examples:
        """Return the data as the teacher's task needs it."""
        return data_in(self.path, teacher, self.text, self.label, self.pair)


Data = Examples | DataFile


def full_training(  # noqa: PLR0913 - one keyword for each choice of a user
    student: ExportedStudent,
    data: Data | None,
    target: Path,
    *,
    plan: TrainingPlan | None = None,
    teacher: Teacher | str | Path | None = None,
    evaluation: Data | None = None,
    declared: Declared | None = None,
    cache: Cache | None = None,
    tell: Callable[[str], None] = lambda _: None,
    show: Callable[[str], None] = lambda _: None,
) -> FullTraining:
    """Prepare the training of an exported student.

    Args:
        student: The student.
        data: Data to train on; None takes the study's own, if its declaration is at hand.
        target: The new folder of the trained student.
        plan: The settings.
        teacher: The teacher, or where to load it from; by default the study's, or the hub's.
        evaluation: Data to evaluate on.
        declared: The declaration of the study, if it is at hand.
        cache: Cache of the teacher's outputs.
        tell: Prints a line.
        show: Shows a line in place of the last one.

    Raises:
        BadInput: There is no data, or the teacher cannot be loaded.
        Mismatch: The teacher is not the student's.
    """
    show("loading the teacher")
    if teacher is None and declared is not None:
        teacher = declared.answers_from or declared.teacher
    answering = teacher if isinstance(teacher, Teacher) else student.load_teacher(teacher)
    own = None if declared is None else declared.distillation
    if data is None and own is not None:
        data = own.data
    if data is None:
        raise BadInput("no data to train on; name a file: --data FILE, or data=Texts.from_file(…)")
    settings = settings_of(student.manifest.get("distillation"), _read(data, answering))
    return FullTraining(
        student=student,
        teacher=answering,
        distillation=settings,
        target=target,
        plan=plan or TrainingPlan(),
        objectives=() if declared is None else declared.objectives,
        evaluation=None if evaluation is None else _read(evaluation, answering),
        cache=cache,
        owns_teacher=answering is not teacher,
        tell=tell,
        show=show,
    )


def _read(data: Data, teacher: Teacher) -> Examples:
    return data.read(teacher) if isinstance(data, DataFile) else data
