"""Encoder-decoders: BART, Whisper, T5."""

from protege.spaces.families.family import STEM, Family, WidthFactor
from protege.spaces.families.heads import CLASSIFIERS, without

# BART and mBART: learned positions, the number of heads follows the width
_BART_LAYERS = {
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

_BART_SIZES = {
    "num_hidden_layers": "encoder_layers",
    "num_decoder_layers": "decoder_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads decoder_attention_heads",
    "intermediate_size": "encoder_ffn_dim decoder_ffn_dim",
    "vocab_size": "vocab_size",
}

_BART_STACKS = {"encoder": "encoder.layers.*", "decoder": "decoder.layers.*"}

BART = Family(
    name="BART",
    model_types=("bart", "mbart"),
    tensors={
        "shared": "vocab hidden",
        "{encoder,decoder}.embed_tokens": "vocab hidden",
        "{encoder,decoder}.layernorm_embedding": "hidden",
        "lm_head": "vocab hidden",
        "final_logits_bias": "one vocab",
        **_BART_LAYERS,
        **CLASSIFIERS,
    },
    sizes=_BART_SIZES,
    stacks=_BART_STACKS,
    stem=(*STEM, "shared"),
    factors=(
        WidthFactor("shared", 0.5, when="scale_embedding"),
        WidthFactor("{encoder,decoder}.embed_tokens", 0.5, when="scale_embedding"),
        WidthFactor("decoder.layer_norm", -0.5, when="scale_embedding", tied_only=True),
    ),
)

# M2M100 and NLLB: BART's layers with positions that are computed, not learned
M2M100 = Family(
    name="M2M100",
    model_types=("m2m_100",),
    tensors={
        "shared": "vocab hidden",
        "{encoder,decoder}.embed_tokens": "vocab hidden",
        "lm_head": "vocab hidden",
        **without(_BART_LAYERS, "embed_positions"),
    },
    sizes=_BART_SIZES,
    stacks=_BART_STACKS,
    stem=(*STEM, "shared"),
    whole={
        "hidden_size": "its positions are sines whose frequencies depend on the width, so that a "
        "narrower student would read other ones"
    },
)

# Whisper: convolutions over a spectrogram, then BART's layers
WHISPER = Family(
    name="Whisper",
    model_types=("whisper",),
    tensors={
        "encoder.conv1": "hidden mel kernel",
        "encoder.conv2": "hidden hidden kernel",
        "decoder.embed_tokens": "vocab hidden",
        "proj_out": "vocab hidden",
        **_BART_LAYERS,
    },
    sizes=_BART_SIZES,
    stacks=_BART_STACKS,
    stem=(*STEM, "encoder.{conv1,conv2}"),
    factors=BART.factors,
)

# T5 and mT5, plain and gated: own head size, distance bias in the first block
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
    projections=("q", "k", "v"),
    ffn_matrices=3,  # of the gated kind; the plain one has 2
    has_positions=False,
    stem=(
        *STEM,
        "shared",
        "{encoder,decoder}.block.0.layer.0.SelfAttention.relative_attention_bias",
    ),
    factors=(
        WidthFactor("decoder.final_layer_norm", -0.5, when="scale_decoder_outputs", tied_only=True),
    ),
)
