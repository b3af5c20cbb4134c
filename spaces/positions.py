"""How long a text a model can read."""

from collections.abc import Mapping
from typing import Any

_FROM_PADDING = {"roberta", "xlm-roberta", "camembert"}
"""Model types that count positions from the padding id on."""


def positions_in(fields: Mapping[str, Any]) -> int | None:
    """How many tokens a model of that configuration can have before it; none without a bound."""
    bound = fields.get("max_position_embeddings", fields.get("n_positions"))
    if bound is None:
        return None
    if fields.get("model_type") == "mpnet":
        return int(bound) - 2  # it counts from 1 on, whatever its padding id is
    lost = fields["pad_token_id"] + 1 if fields.get("model_type") in _FROM_PADDING else 0
    return int(bound) - lost
