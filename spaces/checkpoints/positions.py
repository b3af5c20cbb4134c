"""How long a text a model can read."""

from collections.abc import Mapping
from typing import Any

_FROM_PADDING = {"roberta", "xlm-roberta", "camembert"}
"""Model types that count positions from the padding id on."""

_BY_DISTANCE = {"t5", "mt5"}
"""Model types that know distances alone: what they call positions bounds nothing."""

_BOUNDS = ("max_position_embeddings", "n_positions", "max_target_positions")
"""Fields for the number of positions, by the names that configurations give them."""

UNBOUNDED = 10**9
"""From here on a tokenizer's limit stands for none."""


def positions_in(fields: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model of that configuration reads; None without a bound."""
    fields = fields.get("text_config") or fields
    kind = fields.get("model_type")
    given = (fields.get(name) for name in _BOUNDS)
    bound = next((int(one) for one in given if isinstance(one, int) and one > 0), None)
    if bound is None or kind in _BY_DISTANCE:
        return None
    if kind == "mpnet":
        return bound - 2  # it counts from 1 on, whatever its padding id is
    if kind in _FROM_PADDING:
        pad = fields.get("pad_token_id", 1)  # RoBERTa's own default
        return bound - (pad or 0) - 1
    return bound


def longest_text(fields: Mapping[str, Any], tokenizer: Any, declared: int | None) -> int | None:
    """Return the most tokens of a text that are read; None without a bound.

    Args:
        fields: The configuration.
        tokenizer: The tokenizer, whose ``model_max_length`` counts where nothing is declared.
        declared: The limit that sentence-transformers sets in place of the tokenizer's.
    """
    own = getattr(tokenizer, "model_max_length", None)
    if declared is None and own is not None and own < UNBOUNDED:
        declared = int(own)
    bounds = [bound for bound in (positions_in(fields), declared) if bound is not None]
    return min(bounds, default=None)
