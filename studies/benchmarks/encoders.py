"""BERT encoders with random weights, for latency benchmarks."""

from dataclasses import dataclass, replace
from functools import cache

from transformers import BertConfig

from protege.spaces import Architecture
from protege.spaces.models.blueprint import Blueprint
from studies.benchmarks.start_encoder import minilm


@dataclass(frozen=True)
class Encoder:
    """The sizes of a BERT encoder."""

    layers: int
    hidden: int
    ffn: int

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}/{self.ffn}"

    @property
    def heads(self) -> int:
        """Number of heads: of 32 channels as MiniLM's, or 12 if 32 does not divide the width."""
        return 12 if self.hidden % 32 else self.hidden // 32

    @property
    def blueprint(self) -> Blueprint:
        """The encoder's class and configuration."""
        return Blueprint.of(
            "BertModel",
            BertConfig(
                num_hidden_layers=self.layers,
                hidden_size=self.hidden,
                num_attention_heads=self.heads,
                intermediate_size=self.ffn,
            ),
        )

    @property
    def architecture(self) -> Architecture:
        """The encoder as the architecture of a student of all-MiniLM-L6-v2."""
        return replace(
            minilm_architecture(),
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=self.hidden // self.heads,
            intermediate_size=self.ffn,
        )


REFERENCE = Encoder(6, 384, 1536)
"""The shape of all-MiniLM-L6-v2."""

NEAR_TIES = (
    Encoder(6, 312, 1248),
    Encoder(6, 312, 936),
    Encoder(6, 256, 1024),
    Encoder(6, 256, 1536),
    Encoder(5, 384, 1152),
    Encoder(5, 312, 1248),
    Encoder(5, 312, 1560),
    Encoder(5, 256, 1536),
    Encoder(4, 384, 1536),
    Encoder(4, 384, 1152),
    Encoder(4, 312, 1560),
    Encoder(3, 384, 1536),
)
"""Distinct encoders, many within a few percent of each other in latency."""


@cache
def minilm_architecture() -> Architecture:
    """Return the architecture of all-MiniLM-L6-v2."""
    return minilm().architecture
