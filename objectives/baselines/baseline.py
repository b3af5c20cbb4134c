"""A model that students are compared with: loaded, checked, and read as the teacher is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from protege.objectives.baselines.alignment import alignment
from protege.objectives.baselines.static import StaticEmbedding
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.task_data import TaskData
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import Classes
from protege.objectives.distillation.tasks.multi_label import MultiLabelTask
from protege.objectives.distillation.tasks.regression import RegressionTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.vision import VisionTask
from protege.objectives.distillation.teacher_outputs import compute_outputs
from protege.spaces import (
    Architecture,
    BadInput,
    Blueprint,
    Cache,
    ProtegeError,
    Selection,
    Student,
    Task,
    Teacher,
)
from protege.spaces.models.loading import loaded

Given = str | Path | StaticEmbedding
"""A folder or hub id of a checkpoint, or a static embedding of the teacher."""

ALIGNED = 4096
"""Maximum number of training texts that the map of sentence vectors is fitted on."""

VERSION = 1
"""Version of the cached maps; raise it when the same models would give another map."""

VECTORS = {Task.FEATURES, Task.SENTENCES}
"""Tasks of models whose sentence vectors can be compared."""

OF_WHOLE_EXAMPLES = (SentenceTask, VisionTask, ClassTask, MultiLabelTask, RegressionTask)
"""Distillation tasks with one output per example, so that each model may read it in its own way."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """A model of another origin. It is measured as students are and never trained.

    Attributes:
        name: The name in tables and plots.
        source: The folder or hub id, or what it was made from.
        own: The model with its processor, as a teacher is loaded; of any model type.
    """

    name: str
    source: str
    own: Teacher

    @classmethod
    def load(cls, given: Given, name: str, teacher: Teacher, cache: Cache) -> "Baseline":
        """Load a checkpoint, or make the static embedding.

        Raises:
            BadInput: It cannot be loaded, or is for another task than the teacher.
        """
        if isinstance(given, StaticEmbedding):
            own = given.made(teacher, cache)
        else:
            options = {"revision": None, "trust_remote_code": False}
            with _explained(given):
                own = Teacher(**loaded(given, None, options, {}, cuts=False))
        tasks = {own.task, teacher.task}
        if len(tasks) > 1 and tasks != VECTORS:
            raise BadInput(
                f"baseline {given}: a model for {own.task}, and the teacher is one for "
                f"{teacher.task}; give a checkpoint of the same task"
            )
        return cls(name, own.source, own)

    @cached_property
    def architecture(self) -> Architecture:
        """Its sizes, as far as its configuration names them."""
        try:
            return self.own.architecture
        except ProtegeError:  # a model type without a table
            return _sizes(self.own)

    @property
    def blueprint(self) -> Blueprint:
        """Its model class and configuration."""
        return Blueprint.of(type(self.own.model).__name__, self.own.config)

    @cached_property
    def student(self) -> Student:
        """The model in the form in which objectives expect a student."""
        own = self.own
        kept = Selection((), {})
        return Student(own.model, own.processor, self.architecture, kept, own.embedder())

    @property
    def projection_size(self) -> int:
        """Number of weights of its own sentence projection."""
        last = None if self.own.pooling is None else self.own.pooling.projection
        return 0 if last is None else sum(one.numel() for one in last)

    def check(self, data: TaskData) -> None:
        """Check that its outputs can be compared with the teacher's on this data.

        Raises:
            BadInput: It has other classes, or reads other tokens where tokens are scored.
        """
        with _explained(self.source):
            task = distillation_task(self.own)
        if task != data.task:
            raise BadInput(
                f"baseline {self.source}: scored as {task.name}, and the teacher as "
                f"{data.task.name}; give a checkpoint of the same task"
            )
        _ = self.read(data, data.selected)
        if isinstance(task, ClassTask):
            _ = self._columns(data.teacher)

    def read(self, data: TaskData, inputs: TaskInputs) -> TaskInputs:
        """Return a part of the data as this model reads it.

        Args:
            data: The data.
            inputs: The part as the teacher reads it.

        Raises:
            BadInput: The rows are not those of the teacher.
        """
        found = data.read_by(self.own, inputs)
        same = type(data.task) in OF_WHOLE_EXAMPLES or (
            len(found) == len(inputs) and torch.equal(found.checks, inputs.checks)
        )
        if not same or found.rows != inputs.rows:
            raise BadInput(
                f"baseline {self.source}: it reads other tokens than the teacher, and a model for "
                f"{data.teacher.task} is scored on each token; give a checkpoint with the "
                "teacher's tokenizer and at least its maximum length"
            )
        return found

    def aligned(self, data: TaskData) -> Callable[[Tensor], Tensor]:
        """Return the map from its outputs to those of the teacher.

        Sentence vectors are mapped linearly (see `alignment`); classes are put in the teacher's
        order.
        """
        if isinstance(data.task, SentenceTask):
            found = self._fit(data)
            return lambda vectors: vectors @ found["weight"].T + found["bias"]
        if isinstance(data.task, ClassTask):
            columns = self._columns(data.teacher)
            return lambda logits: logits[..., columns]
        return lambda answer: answer

    def _fit(self, data: TaskData) -> Mapping[str, Tensor]:
        """Return the map of sentence vectors, from the cache if possible."""
        teacher = data.teacher
        key = {
            "teacher": teacher.fingerprint,
            "baseline": self.own.fingerprint,
            "inputs": data.learnt.fingerprint,
            "version": VERSION,
        }

        def compute() -> dict[str, Tensor]:
            inputs = self.read(data, data.learnt).first(ALIGNED)
            given = compute_outputs(self.student.module, data.task, inputs)["vector"]
            return alignment(given, data.outputs(data.learnt)["vector"][: len(given)])

        return data.cache.tensors("alignment", key, compute)

    def _columns(self, teacher: Teacher) -> list[int]:
        """Return the number of each of the teacher's classes in this model.

        Raises:
            BadInput: The classes differ.
        """
        mine, theirs = Classes(self.own), Classes(teacher)
        if len(mine.numbers) == len(theirs.numbers) == 1:  # a score, whatever its name
            return [0]
        names = {number: name for name, number in reversed(theirs.named.items())}
        found = [mine.of_name(names[number]) for number in sorted(theirs.numbers)]
        if None in found or len(set(found)) != len(mine.numbers):
            raise BadInput(
                f"baseline {self.source}: its classes are {mine}, and the teacher's {theirs}; "
                "give a checkpoint with the same classes"
            )
        return [one for one in found if one is not None]


def names_of(given: Sequence[Given]) -> list[str]:
    """Return distinct names: the last part of a folder or hub id, numbered if it occurs again."""
    names: list[str] = []
    for one in given:
        name = one.name if isinstance(one, StaticEmbedding) else Path(one).expanduser().name
        again = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


@contextmanager
def _explained(source: Given) -> Iterator[None]:
    """Name the baseline in errors of the block.

    Raises:
        BadInput: The block raised an error of protege.
    """
    try:
        yield
    except ProtegeError as error:
        raise BadInput(f"baseline {source}: {error}") from error


def _sizes(own: Teacher) -> Architecture:
    """Return the sizes under the usual names of configurations, 0 if there are none."""
    config = own.config.get_text_config()

    def read(*names: str) -> int:
        values = (getattr(config, name, None) for name in names)
        return next((one for one in values if isinstance(one, int)), 0)

    heads, width = read("num_attention_heads"), read("hidden_size")
    return Architecture(
        model_type=config.model_type,
        num_hidden_layers=read("num_hidden_layers"),
        num_decoder_layers=read("num_decoder_layers", "decoder_layers"),
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=read("num_key_value_heads", "num_attention_heads"),
        head_dim=read("head_dim") or width // max(1, heads),
        intermediate_size=read("intermediate_size"),
        vocab_size=read("vocab_size"),
    )
