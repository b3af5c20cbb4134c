"""The supported model families, one table each."""

from protege.spaces.errors import Unsupported
from protege.spaces.families.bart import BART, T5, WHISPER
from protege.spaces.families.bert import (
    BERT,
    DEBERTA,
    DISTILBERT,
    ELECTRA,
    MODERNBERT,
    MPNET,
    ROBERTA,
)
from protege.spaces.families.family import Family
from protege.spaces.families.gpt2 import GPT2, GPT_NEOX, OPT
from protege.spaces.families.llama import GEMMA, LLAMA, MIXTRAL, OLMO, PHI, QWEN_MOE
from protege.spaces.families.vit import DINOV2, SIGLIP, VIT

FAMILIES = (
    *(BERT, ROBERTA, DISTILBERT, MPNET, ELECTRA, DEBERTA, MODERNBERT),
    *(LLAMA, GEMMA, PHI, OLMO, GPT2, GPT_NEOX, OPT, MIXTRAL, QWEN_MOE),
    *(T5, BART, WHISPER),
    *(VIT, DINOV2, SIGLIP),
)

REFUSED = {
    "albert": "all its layers share one set of weights, so that none can be dropped or narrowed "
    "alone; distil from a BERT or RoBERTa of the same vocabulary",
    "gemma3": "it reads images too; give the checkpoint of its text model (gemma3_text)",
    "gemma3n": "its last layers share keys and values with earlier ones",
}
"""Known model types that cannot be cut, with the reason."""

TOWERS = {"siglip": "vision_config"}
"""Model types of two models, and the configuration field of the one that is cut."""


def family_of(model_type: str) -> Family:
    """Return the family of a ``model_type``.

    Raises:
        Unsupported: No family covers it.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    if model_type in REFUSED:
        raise Unsupported(f"model type {model_type!r} cannot be cut: {REFUSED[model_type]}")
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise Unsupported(
        f"model type {model_type!r} is not supported; supported are: {known}. "
        "docs/adding-a-family.md explains how to add a family"
    )


def family_or_bare(model_type: str) -> Family:
    """Return the family of a ``model_type``, or one without a table to run a model of any type."""
    try:
        return family_of(model_type)
    except Unsupported:
        sizes = {name: name for name in ("hidden_size", "vocab_size")}
        return Family(model_type, (model_type,), tensors={}, sizes=sizes, stacks={})


__all__ = ["FAMILIES", "REFUSED", "TOWERS", "Family", "family_of", "family_or_bare"]
