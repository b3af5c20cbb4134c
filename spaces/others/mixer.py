"""An MLP-Mixer of texts: perceptrons over tokens and over channels in turn.

The layers are those of Tolstikhin et al., arXiv 2105.01601, figure 1, with tokens in place of
patches. Texts differ in length: the weights of the first tokens are used, and padding is zero, so
that a text has the same vectors in every batch. This file needs torch and transformers only, as it
is saved beside the weights of a student.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class TextMixerConfig(PretrainedConfig):
    """The configuration of a `TextMixerModel`.

    Attributes:
        vocab_size: Tokens.
        hidden_size: Width of a token's state.
        num_hidden_layers: Layers.
        intermediate_size: Width of each perceptron over channels.
        tokens_size: Width of each perceptron over tokens.
        max_position_embeddings: Maximum tokens of a text.
        layer_norm_eps: Constant of the norms.
        initializer_range: Standard deviation of new weights.
    """

    model_type = "text_mixer"
    vocab_size: int = 30522
    hidden_size: int = 384
    num_hidden_layers: int = 6
    intermediate_size: int = 1536
    tokens_size: int = 128
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02


class _Layer(nn.Module):
    def __init__(self, config: TextMixerConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.tokens_norm = nn.LayerNorm(width, eps=eps)
        self.gather = nn.Linear(config.max_position_embeddings, config.tokens_size)
        self.spread = nn.Linear(config.tokens_size, config.max_position_embeddings)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.wide = nn.Linear(width, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        count = states.shape[1]
        tokens = (self.tokens_norm(states) * mask).transpose(1, 2)
        gathered = nn.functional.linear(tokens, self.gather.weight[:, :count], self.gather.bias)
        mixed = nn.functional.linear(
            nn.functional.gelu(gathered), self.spread.weight[:count], self.spread.bias[:count]
        )
        states = states + mixed.transpose(1, 2)
        narrow: Tensor = self.narrow(nn.functional.gelu(self.wide(self.norm(states))))
        return states + narrow


class TextMixerModel(PreTrainedModel):
    """Embeddings of tokens, mixer layers and a last norm."""

    config_class = TextMixerConfig
    base_model_prefix = "text_mixer"

    def __init__(self, config: TextMixerConfig) -> None:
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
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


AutoConfig.register(TextMixerConfig.model_type, TextMixerConfig, exist_ok=True)
AutoModel.register(TextMixerConfig, TextMixerModel, exist_ok=True)
_SAVED: tuple[Any, Any] = (TextMixerConfig, TextMixerModel)  # untyped in transformers
_SAVED[0].register_for_auto_class()
_SAVED[1].register_for_auto_class("AutoModel")
