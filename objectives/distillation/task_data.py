"""Data as a teacher's students see it: split in three, tokenised, with the teacher's outputs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from protege.objectives.data.example import Example
from protege.objectives.data.examples import Examples
from protege.objectives.data.split import Sketch, Split
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.pictures import ImageInputs
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import renamed
from protege.objectives.distillation.tasks.regression import RegressionTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.distillation.teacher_outputs import cached_outputs
from protege.spaces import Cache, Teacher

CALIBRATING = 512
"""Training sequences to prepare for calibration when a distillation has no steps."""


@dataclass(frozen=True, eq=False)
class TaskData:
    """Data, split and tokenised for a teacher; each part is prepared on first use.

    Attributes:
        teacher: The teacher, whose tokenizer or processor is used.
        task: The distillation task of the teacher.
        cache: Cache of the teacher's outputs.
        examples: The data.
        train: Sequences to train on.
        selection: Sequences to score on during the search.
        held_out: Sequences that the search never uses.
        max_tokens: Maximum sequence length.
        show: Shows how much of the teacher's outputs is computed.
    """

    teacher: Teacher
    task: DistillationTask
    cache: Cache
    examples: Examples
    train: int
    selection: int
    held_out: int
    max_tokens: int
    show: Callable[[str], None] = lambda _: None

    @cached_property
    def standardised(self) -> DistillationTask:
        """The task, of scores with the variances of the teacher's, by which the loss divides."""
        if not isinstance(self.task, RegressionTask):
            return self.task
        return self.task.standardised(self.outputs(self.selected))

    @cached_property
    def learnt(self) -> TaskInputs:
        """The training part."""
        return self._prepare(self._split.train, self.train)

    @cached_property
    def selected(self) -> TaskInputs:
        """The part that the search scores on."""
        return self._prepare(self._split.selection, self.selection)

    @cached_property
    def unseen(self) -> TaskInputs:
        """The part that the search never uses; `selected` if there are too few examples."""
        if not self._split.held_out:
            return self.selected
        return self._prepare(self._split.held_out, self.held_out)

    def sampled(self, examples: Examples, count: int) -> TaskInputs:
        """Return a random sample of other examples as the teacher reads them.

        Args:
            examples: The examples; classes are matched to the teacher's by name.
            count: Sequences in the sample.
        """
        most = self.teacher.at_most(self.max_tokens)
        chosen = Sketch.of(examples, count, lambda one: self.task.size(one, most)).examples()
        if examples.classes and isinstance(self.task, ClassTask):
            chosen = renamed(chosen, examples.classes, self.teacher)
        return self._prepare(chosen, count)

    def outputs(self, inputs: TaskInputs, task: DistillationTask | None = None) -> Targets:
        """Return the teacher's outputs from the cache; compute them if missing.

        Args:
            inputs: Inputs of the teacher.
            task: The task, if its settings differ from the default.
        """
        teacher, task = self.teacher, task or self.task
        key = {
            "teacher": teacher.fingerprint,
            "task": task.name,
            "inputs": inputs.fingerprint,
            "pooling": teacher.pooling and [teacher.pooling.mode, teacher.pooling.normalize],
        }
        module = teacher.embedder() or teacher.model
        return cached_outputs(self.cache, key, module, task, inputs, show=self.show)

    def read_by(self, other: Teacher, inputs: TaskInputs) -> TaskInputs:
        """Return one of the parts as another model reads it.

        Args:
            other: The other model, with its own tokenizer or processor.
            inputs: The part as the teacher reads it.
        """
        examples = self.examples_of(inputs)
        return self.task.inputs(other, examples, self.max_tokens).first(len(inputs))

    def examples_of(self, inputs: TaskInputs) -> list[Example]:
        """Return the examples that one of the parts was made from."""
        parts = zip(("learnt", "selected", "unseen"), self._split, strict=True)
        return next(part for name, part in parts if vars(self).get(name) is inputs)

    def check(self) -> None:
        """Check early that the data fits the teacher.

        Logs a warning if the teacher reads fewer tokens than `max_tokens`.

        Raises:
            BadInput: The teacher cannot read this kind of data, or is no better than chance on its
                labels.
        """
        inputs, most = self.selected, self.max_tokens
        self.check_labels(inputs)
        if not isinstance(inputs, ImageInputs) and self.teacher.at_most(most) < most:
            logging.getLogger("protege").warning(
                "max_tokens=%d: the teacher reads %d tokens at most; texts are cut there",
                *(most, self.teacher.at_most(most)),
            )

    def check_labels(self, inputs: TaskInputs) -> None:
        """Check that the teacher predicts the labels, if the data has any.

        Raises:
            BadInput: The teacher is no better than chance.
        """
        if isinstance(self.task, ClassTask) and self.examples.labelled:
            answers, classes = self.outputs(inputs), self.examples.classes
            self.task.check_labels(answers, inputs.labels, classes, self.teacher)

    @cached_property
    def _split(self) -> Split:
        most, task = self.teacher.at_most(self.max_tokens), self.task
        split = self.examples.split(
            train=self.train or CALIBRATING,
            selection=self.selection,
            held_out=self.held_out,
            size=lambda example: task.size(example, most),
        )
        classes = self.examples.classes
        if classes and isinstance(task, ClassTask):
            return Split(*(renamed(part, classes, self.teacher) for part in split))
        return split

    def _prepare(self, examples: list[Example], count: int) -> TaskInputs:
        found = self.task.inputs(self.teacher, examples, self.max_tokens)
        return found.first(count or CALIBRATING)
