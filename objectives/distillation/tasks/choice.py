"""The distillation task of each kind of model."""

from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.multi_label import MultiLabelTask
from protege.objectives.distillation.tasks.pairs import PairTask, SpeechTask
from protege.objectives.distillation.tasks.questions import QuestionTask
from protege.objectives.distillation.tasks.regression import RegressionTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.distillation.tasks.tokens import TokenTask
from protege.objectives.distillation.tasks.vision import VisionTask
from protege.spaces import Task, Teacher, Unsupported
from protege.spaces.checkpoints.tasks import Outputs, outputs_of

TASKS: dict[Task, DistillationTask] = {
    Task.FEATURES: SentenceTask(),
    Task.SENTENCES: SentenceTask(),
    Task.FILL_MASK: LanguageTask(masked=True),
    Task.GENERATION: LanguageTask(),
    Task.TEXTS: ClassTask(),
    Task.TOKENS: TokenTask(),
    Task.TEXT_TO_TEXT: PairTask(),
    Task.QUESTIONS: QuestionTask(),
    Task.SPEECH: SpeechTask(),
    Task.IMAGES: ClassTask(images=True),
    Task.IMAGE_FEATURES: VisionTask(),
}

OF_OUTPUTS: dict[Outputs, dict[Task, DistillationTask]] = {
    Outputs.LABELS: {Task.TEXTS: MultiLabelTask(), Task.IMAGES: MultiLabelTask(images=True)},
    Outputs.SCORES: {Task.TEXTS: RegressionTask(), Task.IMAGES: RegressionTask(images=True)},
}
"""The tasks of heads that predict several classes or scores for each input."""


def distillation_task(teacher: Teacher) -> DistillationTask:
    """Return the distillation task that fits the teacher's own.

    Raises:
        Unsupported: Retention is not defined for the teacher's outputs.
    """
    task, config = teacher.task, teacher.config
    if isinstance(TASKS[task], SentenceTask) and teacher.pooling is None:
        raise Unsupported(
            f"{teacher.source}: a {type(teacher.model).__name__} makes no vectors of texts or "
            "images; give a model with the head that it is used with"
        )
    outputs = outputs_of(task, config)
    found = OF_OUTPUTS.get(outputs, TASKS).get(task)
    if found is None:
        raise Unsupported(
            f"{teacher.source}: num_labels={config.num_labels}, "
            f"problem_type={config.problem_type!r}: it answers with {outputs}; retention of a "
            f"model for {task} can be measured where one of two or more classes is right"
        )
    return found
