"""The padding token and the maximum input length of a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protege.spaces.errors import BadInput
from protege.spaces.families.family import family_or_bare

if TYPE_CHECKING:  # records name tasks without transformers
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def rows_of(model: "PreTrainedModel") -> int:
    """Return the number of rows of the model's embedding."""
    embedding: Any = model.get_input_embeddings()
    return len(embedding.weight)


def pad_id(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the id that batches are padded with.

    The configuration's id comes first, because models use it: RoBERTa counts positions from it,
    and a classifier on a decoder finds the end of a text by it. Next is the tokenizer's id, if the
    embedding has a row for it. Otherwise it is any token that does not end texts; the attention
    mask hides it.
    """
    rows = rows_of(model)
    own = configured_pad(model.config)
    unused = _ending_no_text(tokenizer)
    named = [own, tokenizer.pad_token_id, *unused, tokenizer.eos_token_id]
    return next((one for one in named if _is_id(one, rows)), 0)


def settle_pad(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Set the padding id in the configuration of a model that needs it, if it has none.

    Raises:
        BadInput: No special token can serve as padding, because each may end a text.
    """
    rows = rows_of(model)
    if _is_id(configured_pad(model.config), rows):
        return
    unused = [tokenizer.pad_token_id, *_ending_no_text(tokenizer)]
    found = next((one for one in unused if _is_id(one, rows)), None)
    if found is None:
        raise BadInput(
            f"{model.name_or_path}: neither its config.json nor its tokenizer has a padding token "
            "with a row in the embedding, and a classifier on a decoder finds the end of a text by "
            "it; set pad_token_id in config.json to the one that it was trained with"
        )
    text_config: Any = model.config.get_text_config()
    text_config.pad_token_id = found


def configured_pad(config: "PretrainedConfig") -> int | None:
    """Return the padding id of the configuration."""
    found: int | None = getattr(config.get_text_config(), "pad_token_id", None)
    return found


def _ending_no_text(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Return the special tokens that do not end texts, with the end-of-sequence token last."""
    read: list[int] = tokenizer("a")["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id, *read[-1:]}
    return sorted(special, key=lambda one: (one == tokenizer.eos_token_id, one))


def _is_id(value: object, rows: int) -> bool:
    return isinstance(value, int) and 0 <= value < rows


UNBOUNDED = 10**9
"""A tokenizer's limit at least this large means no limit."""


def positions_in(fields: Mapping[str, Any]) -> int | None:
    """Return the maximum number of tokens by a configuration; None if unbounded."""
    fields = fields.get("text_config") or fields
    return family_or_bare(fields["model_type"]).positions(fields)


def longest_text(fields: Mapping[str, Any], tokenizer: Any, declared: int | None) -> int | None:
    """Return the maximum number of tokens of a text; None if unbounded.

    ``declared``, the limit of sentence-transformers, replaces the tokenizer's own.
    """
    own = getattr(tokenizer, "model_max_length", None)
    if declared is None and own is not None and own < UNBOUNDED:
        declared = int(own)
    bounds = [bound for bound in (positions_in(fields), declared) if bound is not None]
    return min(bounds, default=None)
