"""The distillation task of image encoders, which match the teacher's vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.pictures import images
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.spaces import Teacher


@dataclass(frozen=True)
class VisionTask(SentenceTask):
    """Image embedding; the quality is the mean cosine to the teacher's pooled vectors."""

    name: ClassVar[str] = "image-vectors"

    def inputs(
        self,
        teacher: Teacher,
        examples: Sequence[Example],
        max_tokens: int,  # noqa: ARG002 - the teacher's processor fixes the size of an image
    ) -> TaskInputs:
        return images(teacher, examples, [NO_LABEL] * len(examples))
