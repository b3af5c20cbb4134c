"""A convolutional encoder of texts: ConvNeXt's blocks over tokens.

A block is a depthwise convolution over neighbouring tokens, a norm and a feed-forward network
(Liu et al., arXiv 2201.03545, section 2.6, with tokens in place of pixels). This file needs torch
and transformers only, as it is saved beside the weights of a student.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class TextCnnConfig(PretrainedConfig):
    """The configuration of a `TextCnnModel`.

    Attributes:
        vocab_size: Tokens.
        hidden_size: Width of a token's state.
        num_hidden_layers: Blocks.
        intermediate_size: Width of each feed-forward network.
        kernel_size: Neighbouring tokens that a convolution reads, an odd number.
        layer_norm_eps: Constant of the norms.
        initializer_range: Standard deviation of new weights.
    """

    model_type = "text_cnn"
    vocab_size: int = 30522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    intermediate_size: int = 1536
    kernel_size: int = 7
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02


class _Block(nn.Module):
    def __init__(self, config: TextCnnConfig) -> None:
        super().__init__()
        width, kernel = config.hidden_size, config.kernel_size
        self.near = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.wide = nn.Linear(width, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        near = self.near((states * mask).transpose(1, 2)).transpose(1, 2)
        narrow: Tensor = self.narrow(nn.functional.gelu(self.wide(self.norm(near))))
        return states + narrow


class TextCnnModel(PreTrainedModel):
    """Embeddings of tokens, convolutional blocks and a last norm."""

    config_class = TextCnnConfig
    base_model_prefix = "text_cnn"

    def __init__(self, config: TextCnnConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        initialise: Any = self.post_init  # untyped in transformers
        initialise()

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.word_embeddings = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Encode ``(batch, tokens)`` ids as ``(batch, tokens, width)`` states."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.word_embeddings(input_ids)
        real = mask.unsqueeze(-1).to(states.dtype)
        for layer in self.layers:
            states = layer(states, real)
        return BaseModelOutput(self.norm(states))


AutoConfig.register(TextCnnConfig.model_type, TextCnnConfig, exist_ok=True)
AutoModel.register(TextCnnConfig, TextCnnModel, exist_ok=True)
_SAVED: tuple[Any, Any] = (TextCnnConfig, TextCnnModel)  # untyped in transformers
_SAVED[0].register_for_auto_class()
_SAVED[1].register_for_auto_class("AutoModel")
