"""A static embedding: one vector per token, averaged over a text.

This file needs torch and transformers only, as it is saved beside the weights of a student.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class StaticConfig(PretrainedConfig):
    """The configuration of a `StaticModel`.

    Attributes:
        vocab_size: Rows of the table.
        hidden_size: Width of a vector.
        left_out: Ids of tokens that count nothing, as those around every text.
    """

    model_type = "static"
    vocab_size: int = 1
    hidden_size: int = 1
    left_out: list[int] | None = None


class StaticModel(PreTrainedModel):
    """A table of token vectors; the vector of a text is their mean.

    It is a transformers model, so that it is measured, exported and built from its configuration
    like any other. Its table has the name that `StaticEmbedding` of sentence-transformers reads.
    """

    config_class = StaticConfig
    base_model_prefix = "static"

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        initialise: Any = self.post_init  # untyped in transformers
        initialise()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: Any) -> None:
        self.embedding = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> BaseModelOutput:
        """Average the vectors of ``(batch, tokens)`` ids, without padding and what is left out.

        Returns:
            The vector of each text at every position of ``last_hidden_state``,
            ``(batch, tokens, width)``, so that any pooling of tokens returns it.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        for token in self.config.left_out or ():
            mask = mask * (input_ids != token)
        weights = mask.to(self.embedding.weight.dtype).unsqueeze(1)
        vectors = weights @ self.embedding(input_ids) / weights.sum(-1, keepdim=True).clamp(min=1)
        return BaseModelOutput(vectors.expand(-1, input_ids.shape[1], -1))


AutoConfig.register(StaticConfig.model_type, StaticConfig, exist_ok=True)
AutoModel.register(StaticConfig, StaticModel, exist_ok=True)
_SAVED: tuple[Any, Any] = (StaticConfig, StaticModel)  # untyped in transformers
_SAVED[0].register_for_auto_class()
_SAVED[1].register_for_auto_class("AutoModel")
