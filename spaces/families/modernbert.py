"""ModernBERT: pre-LN, rotary positions, gated feed-forward, local layers between global ones."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS

MODERNBERT = Family(
    name="ModernBERT",
    model_types=("modernbert",),
    tensors={
        "embeddings.tok_embeddings": "vocab hidden",
        "embeddings.norm": "hidden",
        "layers.*.{attn_norm,mlp_norm}": "hidden",
        "layers.*.attn.Wqkv": "heads+heads+heads hidden",
        "layers.*.attn.Wo": "hidden heads",
        "layers.*.mlp.Wi": "ffn+ffn hidden",
        "layers.*.mlp.Wo": "hidden ffn",
        "final_norm": "hidden",
        "head.dense": "hidden hidden",
        "head.norm": "hidden",
        "decoder": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "layers.*"},
    per_layer=("layer_types",),
    first_layer_stays=("num_hidden_layers",),  # it alone has no norm before its attention
)
