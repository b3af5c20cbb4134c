"""The maximum input length of a model."""

from collections.abc import Mapping
from typing import Any

_FROM_PADDING = {"roberta", "xlm-roberta", "camembert"}
"""Model types that count positions from the padding id."""

_BY_DISTANCE = {"t5", "mt5"}
"""Model types with relative positions, whose number of positions is no limit."""

_BOUNDS = ("max_position_embeddings", "n_positions", "max_target_positions")
"""Configuration fields for the number of positions."""

UNBOUNDED = 10**9
"""A tokenizer's limit at least this large means no limit."""


def positions_in(fields: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens by a configuration; None if unbounded."""
    fields = fields.get("text_config") or fields
    kind = fields.get("model_type")
    given = (fields.get(name) for name in _BOUNDS)
    bound = next((int(one) for one in given if isinstance(one, int) and one > 0), None)
    if bound is None or kind in _BY_DISTANCE:
        return None
    if kind == "mpnet":
        return bound - 2  # it counts from 1, independent of its padding id
    if kind in _FROM_PADDING:
        pad = fields.get("pad_token_id", 1)  # RoBERTa's own default
        return bound - (pad or 0) - 1
    return bound


def longest_text(fields: Mapping[str, Any], tokenizer: Any, declared: int | None) -> int | None:
    """Return the maximum number of tokens of a text; None if unbounded.

    Args:
        fields: The configuration.
        tokenizer: The tokenizer; its ``model_max_length`` counts if ``declared`` is None.
        declared: The limit of sentence-transformers, which replaces the tokenizer's.
    """
    own = getattr(tokenizer, "model_max_length", None)
    if declared is None and own is not None and own < UNBOUNDED:
        declared = int(own)
    bounds = [bound for bound in (positions_in(fields), declared) if bound is not None]
    return min(bounds, default=None)
