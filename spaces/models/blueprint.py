"""A model without weights: its class and configuration."""

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # blueprints are sent and compared without torch
    from transformers import PretrainedConfig, PreTrainedModel


OWN_CLASSES = {
    "StaticModel": "static",
    "TextCnnModel": "convolution",
    "TextMixerModel": "mixer",
}
"""Protege's own model classes, and the modules of `protege.spaces.others` that hold them."""


def class_named(name: str) -> Any:
    """Return a model class of transformers, or one of protege's own.

    Raises:
        AttributeError: There is no such class.
    """
    if name in OWN_CLASSES:  # their modules register their configurations
        return getattr(import_module(f"protege.spaces.others.{OWN_CLASSES[name]}"), name)
    import transformers

    return getattr(transformers, name)


@dataclass(frozen=True)
class Blueprint:
    """The transformers class and configuration of a model; hashable and picklable.

    Attributes:
        model_class: Name of a class that transformers exports, such as ``"LlamaForCausalLM"``, or
            of one in `OWN_CLASSES`.
        config: The configuration as a JSON text.
    """

    model_class: str
    config: str

    @classmethod
    def of(cls, model_class: str, config: "PretrainedConfig") -> "Blueprint":
        """Make the blueprint of a class and configuration."""
        return cls(model_class, json.dumps(config.to_dict(), sort_keys=True))

    def configuration(self) -> "PretrainedConfig":
        """Return the configuration object, validated by its class."""
        from transformers import AutoConfig

        class_named(self.model_class)
        fields: dict[str, Any] = json.loads(self.config)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)

    def build(self) -> "PreTrainedModel":
        """Build the model with random weights, in evaluation mode."""
        from transformers.initialization import no_init_weights

        # the constructors of the layers and then the model would each draw all weights
        with no_init_weights():
            model: PreTrainedModel = class_named(self.model_class)(self.configuration())
        model.init_weights()
        model.eval()
        return model

    def skeleton(self) -> "PreTrainedModel":
        """Build the model on the meta device, without storage."""
        import torch

        with torch.device("meta"):
            return self.build()
