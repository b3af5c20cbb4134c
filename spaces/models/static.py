"""A static embedding: one vector per token, averaged over a text."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class StaticConfig(PretrainedConfig):
    """The configuration of a `StaticModel`: ``vocab_size`` rows of ``hidden_size`` values."""

    model_type = "protege_static"
    vocab_size: int = 1
    hidden_size: int = 1


class StaticModel(PreTrainedModel):
    """A table of token vectors; the vector of a text is their mean.

    It is a transformers model, so that it is measured, exported and built from a `Blueprint` like
    any other.
    """

    config_class = StaticConfig
    base_model_prefix = "static"

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        initialise: Any = self.post_init  # untyped in transformers
        initialise()

    def get_input_embeddings(self) -> nn.Module:
        return self.tokens

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Average the vectors of ``(batch, tokens)`` ids, without padding.

        Returns:
            The vector of each text at every position of ``last_hidden_state``,
            ``(batch, tokens, width)``, so that any pooling of tokens returns it.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = mask.to(self.tokens.weight.dtype).unsqueeze(1)
        vectors = weights @ self.tokens(input_ids) / weights.sum(-1, keepdim=True).clamp(min=1)
        return BaseModelOutput(vectors.expand(-1, input_ids.shape[1], -1))


AutoConfig.register(StaticConfig.model_type, StaticConfig, exist_ok=True)
