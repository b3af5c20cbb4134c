"""The supported model families, one table each."""

from protege.spaces.families.bart import BART, M2M100, T5, WHISPER
from protege.spaces.families.bert import (
    BERT,
    DEBERTA,
    DISTILBERT,
    ELECTRA,
    MODERNBERT,
    MODERNBERT_DECODER,
    MPNET,
    ROBERTA,
)
from protege.spaces.families.family import register
from protege.spaces.families.gpt2 import GPT2, GPT_NEOX, OPT
from protege.spaces.families.llama import GEMMA, LLAMA, MIXTRAL, OLMO, PHI, QWEN_MOE
from protege.spaces.families.rotary_encoders import EUROBERT, JINA, NOMIC
from protege.spaces.families.vit import DINOV2, SIGLIP, VIT

FAMILIES = register(
    *(BERT, ROBERTA, DISTILBERT, MPNET, ELECTRA, DEBERTA, MODERNBERT),
    *(EUROBERT, NOMIC, JINA, MODERNBERT_DECODER),
    *(LLAMA, GEMMA, PHI, OLMO, GPT2, GPT_NEOX, OPT, MIXTRAL, QWEN_MOE),
    *(T5, BART, M2M100, WHISPER),
    *(VIT, DINOV2, SIGLIP),
)
