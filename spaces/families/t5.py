"""T5 and mT5, plain and gated: heads of their own size, distances in a bias of the first block."""

from protege.spaces.families.family import STEM, Family, WidthFactor
from protege.spaces.families.heads import CLASSIFIERS

T5 = Family(
    name="T5",
    model_types=("t5", "mt5"),
    tensors={
        "shared": "vocab hidden",
        "{encoder,decoder}.embed_tokens": "vocab hidden",
        "{encoder,decoder}.block.*.layer.*.SelfAttention.{q,k,v}": "heads hidden",
        "{encoder,decoder}.block.*.layer.*.SelfAttention.o": "hidden heads",
        # one for the whole stack, wherever its first block comes from
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": "bucket encoder.head",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias": "bucket decoder.head",
        "decoder.block.*.layer.*.EncDecAttention.{q,k,v}": "cross_heads hidden",
        "decoder.block.*.layer.*.EncDecAttention.o": "hidden cross_heads",
        "{encoder,decoder}.block.*.layer.*.DenseReluDense.{wi,wi_0,wi_1}": "ffn hidden",
        "{encoder,decoder}.block.*.layer.*.DenseReluDense.wo": "hidden ffn",
        "{encoder,decoder}.block.*.layer.*.layer_norm": "hidden",
        "{encoder,decoder}.final_layer_norm": "hidden",
        "lm_head": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes={
        "num_hidden_layers": "num_layers",
        "num_decoder_layers": "num_decoder_layers",
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "head_dim": "d_kv",
        "intermediate_size": "d_ff",
        "vocab_size": "vocab_size",
    },
    stacks={"encoder": "encoder.block.*", "decoder": "decoder.block.*"},
    shared=("heads",),
    stem=(
        *STEM,
        "shared",
        "{encoder,decoder}.block.0.layer.0.SelfAttention.relative_attention_bias",
    ),
    factors=(
        WidthFactor("decoder.final_layer_norm", -0.5, when="scale_decoder_outputs", tied_only=True),
    ),
)
