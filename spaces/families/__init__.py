"""The model families that students can be cut from: one table each."""

from protege.spaces.errors import Unsupported
from protege.spaces.families.bart import BART
from protege.spaces.families.bert import BERT
from protege.spaces.families.deberta import DEBERTA
from protege.spaces.families.dinov2 import DINOV2
from protege.spaces.families.distilbert import DISTILBERT
from protege.spaces.families.electra import ELECTRA
from protege.spaces.families.family import Family
from protege.spaces.families.gemma import GEMMA
from protege.spaces.families.gpt2 import GPT2
from protege.spaces.families.gpt_neox import GPT_NEOX
from protege.spaces.families.llama import LLAMA
from protege.spaces.families.modernbert import MODERNBERT
from protege.spaces.families.moe import MIXTRAL, QWEN_MOE
from protege.spaces.families.mpnet import MPNET
from protege.spaces.families.olmo import OLMO
from protege.spaces.families.opt import OPT
from protege.spaces.families.phi import PHI
from protege.spaces.families.roberta import ROBERTA
from protege.spaces.families.siglip import SIGLIP
from protege.spaces.families.t5 import T5
from protege.spaces.families.vit import VIT
from protege.spaces.families.whisper import WHISPER

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
"""Model types that are asked for and cannot be cut, with the reason."""

TOWERS = {"siglip": "vision_config"}
"""Model types that are two models, and the field that holds the one that students are cut from."""


def family_of(model_type: str) -> Family:
    """The family of a configuration's ``model_type``.

    Raises:
        Unsupported: No family has it.
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


__all__ = ["FAMILIES", "REFUSED", "TOWERS", "Family", "family_of"]
