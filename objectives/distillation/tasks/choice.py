"""The distillation task of each kind of model."""

from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.tasks.pictures import ImageTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.distillation.tasks.tokens import TokenTask
from protege.spaces import Task, Teacher, Unsupported
from protege.spaces.checkpoints.tasks import unjudged

TASKS: dict[Task, DistillationTask] = {
    Task.FEATURES: SentenceTask(),
    Task.SENTENCES: SentenceTask(),
    Task.FILL_MASK: LanguageTask(masked=True),
    Task.GENERATION: LanguageTask(),
    Task.TEXTS: ClassTask(),
    Task.TOKENS: TokenTask(),
    Task.TEXT_TO_TEXT: PairTask(),
    Task.IMAGES: ImageTask(),
}


def distillation_task(teacher: Teacher) -> DistillationTask:
    """Return the distillation task that fits the teacher's own.

    Raises:
        Unsupported: Retention is not defined for the teacher's task or for its outputs.
    """
    if teacher.task not in TASKS:
        raise Unsupported(
            f"retention of a model for {teacher.task} cannot be measured; "
            f"it can for {', '.join(TASKS)}"
        )
    found = unjudged(teacher.task, teacher.config, reads_pairs=teacher.reads_pairs)
    if found:
        raise Unsupported(
            f"{teacher.source}: {found}; retention of a model for {teacher.task} can be measured "
            "where each text, word or image has one of two or more classes; other tasks are "
            f"{', '.join(task for task in TASKS if task is not teacher.task)}"
        )
    return TASKS[teacher.task]
