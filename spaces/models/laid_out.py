"""The part of a teacher that calibration and students need."""

from typing import Any, Protocol

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.pooling import Pooling
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.families import Family
from protege.spaces.models.layout import Layout


class LaidOutModel(Protocol):
    """A loaded model with a layout; `Teacher` implements it.

    Attributes:
        model: The model, in evaluation mode.
        processor: Its tokenizer, image processor or feature extractor.
        task: The model's task.
        family: The family, whose table names the tensors.
        pooling: The pooling into sentence vectors, or None.
    """

    @property
    def model(self) -> PreTrainedModel: ...
    @property
    def processor(self) -> Any: ...
    @property
    def task(self) -> Task: ...
    @property
    def family(self) -> Family: ...
    @property
    def pooling(self) -> Pooling | None: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def config(self) -> PretrainedConfig: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def architecture(self) -> Architecture: ...
    @property
    def generates(self) -> bool: ...
    @property
    def has_logits(self) -> bool: ...

    def with_model(self, model: PreTrainedModel, pooling: Pooling | None) -> "LaidOutModel":
        """Return this with another model of the family and its pooling."""
        ...
