"""The part of a teacher that calibration and the making of students need."""

from typing import Any, Protocol

from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.pooling import Pooling
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.families import Family
from protege.spaces.models.layout import Layout


class LaidOutModel(Protocol):
    """A loaded model whose tensors are named by its family's table; `Teacher` is one.

    Attributes:
        model: The model, in evaluation mode.
        processor: Its tokenizer, image processor or feature extractor.
        task: What the model is for.
        family: The table that its tensors are named by.
        pooling: How it makes one vector of a text, or None.
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
    @property
    def can_generate(self) -> bool: ...

    def with_model(self, model: PreTrainedModel, pooling: Pooling | None) -> "LaidOutModel":
        """Return the same with another model of the family and its pooling."""
        ...

    def generation_config(self, vocab: tuple[int, ...] | None) -> Any:
        """Return how a model of these tokens generates text; None stands for all tokens."""
        ...
