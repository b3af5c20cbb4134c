"""Encoders that are timed against each other: random weights, a BERT's shape."""

from dataclasses import dataclass, replace
from functools import cache

from transformers import BertConfig

from protege.spaces import Architecture
from protege.spaces.models.blueprint import Blueprint
from studies.benchmarks.start_encoder import minilm


@dataclass(frozen=True)
class Encoder:
    """A BERT's sizes."""

    layers: int
    hidden: int
    ffn: int

    def __str__(self) -> str:
        return f"{self.layers}x{self.hidden}/{self.ffn}"

    @property
    def heads(self) -> int:
        """Heads of 32 channels, as MiniLM's, or a dozen where those do not fit."""
        return 12 if self.hidden % 32 else self.hidden // 32

    @property
    def blueprint(self) -> Blueprint:
        """Its class and configuration."""
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
        """The same as a student of all-MiniLM-L6-v2 has it."""
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
"""Many of them within a few percent of each other, none like another."""


@cache
def minilm_architecture() -> Architecture:
    """The teacher's own sizes."""
    return minilm().architecture
