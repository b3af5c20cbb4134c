"""A model without its weights: the class and the configuration that build it."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # blueprints are sent and compared without torch
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Blueprint:
    """The transformers class and configuration of one model; hashable, and small enough to send.

    Attributes:
        model_class: Name of a class that transformers exports, such as ``"LlamaForCausalLM"``.
        config: The configuration as a JSON text.
    """

    model_class: str
    config: str

    @classmethod
    def of(cls, model_class: str, config: "PretrainedConfig") -> "Blueprint":
        """The blueprint of a model of that class and configuration."""
        return cls(model_class, json.dumps(config.to_dict(), sort_keys=True))

    def configuration(self) -> "PretrainedConfig":
        """The configuration object, validated by its own class."""
        from transformers import AutoConfig

        fields: dict[str, Any] = json.loads(self.config)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)

    def build(self) -> "PreTrainedModel":
        """The model with random weights, as its own class initialises them."""
        import transformers

        model: PreTrainedModel = getattr(transformers, self.model_class)(self.configuration())
        model.eval()
        return model

    def skeleton(self) -> "PreTrainedModel":
        """The model on the meta device: every shape, no storage."""
        import torch

        with torch.device("meta"):
            return self.build()
