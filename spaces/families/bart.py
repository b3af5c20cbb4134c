"""BART and mBART: an encoder and a decoder with learned positions, heads tied to the width."""

from protege.spaces.families.family import STEM, Family, WidthFactor
from protege.spaces.families.heads import CLASSIFIERS

LAYERS = {
    "{encoder,decoder}.layers.*.self_attn.{q_proj,k_proj,v_proj}": "heads hidden",
    "{encoder,decoder}.layers.*.self_attn.out_proj": "hidden heads",
    "{encoder,decoder}.layers.*.{self_attn,final}_layer_norm": "hidden",
    "decoder.layers.*.encoder_attn.{q_proj,k_proj,v_proj}": "cross_heads hidden",
    "decoder.layers.*.encoder_attn.out_proj": "hidden cross_heads",
    "decoder.layers.*.encoder_attn_layer_norm": "hidden",
    "{encoder,decoder}.layers.*.fc1": "ffn hidden",
    "{encoder,decoder}.layers.*.fc2": "hidden ffn",
    "{encoder,decoder}.layer_norm": "hidden",
    "{encoder,decoder}.embed_positions": "place hidden",
}

SIZES = {
    "num_hidden_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads decoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim decoder_ffn_dim",
    "vocab_size": "vocab_size",
}

STACKS = {"encoder": "encoder.layers.*", "decoder": "decoder.layers.*"}

BART = Family(
    name="BART",
    model_types=("bart", "mbart"),
    tensors={
        "shared": "vocab hidden",
        "{encoder,decoder}.embed_tokens": "vocab hidden",
        "{encoder,decoder}.layernorm_embedding": "hidden",
        "lm_head": "vocab hidden",
        "final_logits_bias": "one vocab",
        **LAYERS,
        **CLASSIFIERS,
    },
    sizes=SIZES,
    stacks=STACKS,
    stem=(*STEM, "shared"),
    factors=(
        WidthFactor("shared", 0.5, when="scale_embedding"),
        WidthFactor("{encoder,decoder}.embed_tokens", 0.5, when="scale_embedding"),
        WidthFactor("decoder.layer_norm", -0.5, when="scale_embedding", tied_only=True),
    ),
)
