"""Encoders with rotary positions: EuroBERT, NomicBERT, Jina Embeddings v3."""

from dataclasses import replace

from protege.spaces.families.family import Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS, ROBERTA_LM_HEAD
from protege.spaces.families.llama import LLAMA

# EuroBERT: Llama's layers that attend to both sides
EUROBERT = replace(
    LLAMA,
    name="EuroBERT",
    model_types=("eurobert",),
    tensors={**LLAMA.tensors, "dense": "hidden hidden"},
    stacks={"encoder": "layers.*"},
    per_layer=(),
    layer_bounds=(),
)

_LAYERS = {
    "embeddings.word_embeddings": "vocab hidden",
    "embeddings.token_type_embeddings": "place hidden",
    "embeddings.LayerNorm": "hidden",
    "layers.*.self_attn.{q_proj,k_proj,v_proj}": "heads hidden",
    "layers.*.self_attn.o_proj": "hidden heads",
    "layers.*.{post_attention_layernorm,post_mlp_layernorm}": "hidden",
}

# NomicBERT: post-LN, gated feed-forward, no biases
NOMIC = Family(
    name="NomicBERT",
    model_types=("nomic_bert",),
    tensors={
        **_LAYERS,
        "layers.*.mlp.{gate_proj,up_proj}": "ffn hidden",
        "layers.*.mlp.down_proj": "hidden ffn",
        "pooler.dense": "hidden hidden",
        "cls.predictions.transform.dense": "hidden hidden",
        "cls.predictions.transform.layer_norm": "hidden",
        "cls.predictions.decoder": "vocab hidden",
        "cls.predictions.bias": "vocab",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "layers.*"},
    ffn_matrices=3,
)

# Jina Embeddings v3: XLM-RoBERTa with rotary positions
JINA = Family(
    name="Jina Embeddings v3",
    model_types=("jina_embeddings_v3",),
    tensors={
        **_LAYERS,
        "layers.*.mlp.fc1": "ffn hidden",
        "layers.*.mlp.fc2": "hidden ffn",
        "pooler.dense": "hidden hidden",
        **ROBERTA_LM_HEAD,
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "layers.*"},
)
