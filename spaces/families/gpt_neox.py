"""GPT-NeoX and Pythia: queries, keys and values of each head side by side in one projection."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS

GPT_NEOX = Family(
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    tensors={
        "embed_in": "vocab hidden",
        "layers.*.{input,post_attention}_layernorm": "hidden",
        "layers.*.attention.query_key_value": "qkv_heads hidden",
        "layers.*.attention.dense": "hidden heads",
        "layers.*.mlp.dense_h_to_4h": "ffn hidden",
        "layers.*.mlp.dense_4h_to_h": "hidden ffn",
        "final_layer_norm": "hidden",
        "lm_head": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"decoder": "layers.*"},
    turns=True,
    stem=("embed_in",),
)
