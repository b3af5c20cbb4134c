"""DistilBERT: BERT without token types and pooler, under names of its own."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import CLASSIFIERS

DISTILBERT = Family(
    name="DistilBERT",
    model_types=("distilbert",),
    tensors={
        "embeddings.word_embeddings": "vocab hidden",
        "embeddings.position_embeddings": "place hidden",
        "embeddings.LayerNorm": "hidden",
        "transformer.layer.*.attention.{q_lin,k_lin,v_lin}": "heads hidden",
        "transformer.layer.*.attention.out_lin": "hidden heads",
        "transformer.layer.*.{sa_layer_norm,output_layer_norm}": "hidden",
        "transformer.layer.*.ffn.lin1": "ffn hidden",
        "transformer.layer.*.ffn.lin2": "hidden ffn",
        "{vocab_transform,pre_classifier}": "hidden hidden",
        "vocab_layer_norm": "hidden",
        "vocab_projector": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes={
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "vocab_size": "vocab_size",
    },
    stacks={"encoder": "transformer.layer.*"},
)
