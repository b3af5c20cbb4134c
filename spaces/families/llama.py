"""Llama and decoders built like it: Gemma, OLMo 2, Phi-3, Mixtral, Qwen3-MoE."""

from dataclasses import replace

from protege.spaces.families.family import Family, WidthFactor
from protege.spaces.families.heads import CLASSIFIERS, LLAMA_SIZES, without

# Llama: pre-RMSNorm, rotary positions, gated feed-forward, grouped-query attention
_DECODER = Family(
    name="",
    model_types=(),
    tensors={
        "embed_tokens": "vocab hidden",
        "layers.*.self_attn.q_proj": "heads hidden",
        "layers.*.self_attn.{k_proj,v_proj}": "kv_heads hidden",
        "layers.*.self_attn.{q_norm,k_norm}": "channel",  # of one head, the same for all
        "layers.*.self_attn.o_proj": "hidden heads",
        "layers.*.{input,post_attention}_layernorm": "hidden",
        "layers.*.mlp.{gate_proj,up_proj}": "ffn hidden",
        "layers.*.mlp.down_proj": "hidden ffn",
        "norm": "hidden",
        "lm_head": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes=LLAMA_SIZES,
    stacks={"decoder": "layers.*"},
    ffn_matrices=3,
)

LLAMA = replace(
    _DECODER,
    name="Llama",
    model_types=(
        *("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite"),
        *("ministral", "ministral3", "seed_oss"),
    ),
    turns=True,
    per_layer=("layer_types", "no_rope_layers"),
    layer_bounds=("max_window_layers",),
)

# Gemma 2 and 3: four norms per layer with a gain of 1 + weight, embeddings scaled by width
GEMMA = replace(
    _DECODER,
    name="Gemma",
    model_types=("gemma2", "gemma3_text"),
    tensors={**LLAMA.tensors, "layers.*.{pre,post}_feedforward_layernorm": "hidden"},
    per_layer=("layer_types",),
    gain_offset=1.0,
    factors=(
        WidthFactor("embed_tokens", 0.5),
        WidthFactor("norm", -0.5, tied_only=True, offset=1.0),
    ),
)

# OLMo 2 and 3: Llama with norms after attention and feed-forward, and over all queries and keys
_SPANS_ALL_HEADS = (
    "its query and key norms span all heads, so that with fewer of them every other would change"
)

OLMO = replace(
    _DECODER,
    name="OLMo",
    model_types=("olmo2", "olmo3"),
    per_layer=("layer_types",),
    tensors={
        **without(LLAMA.tensors, "norm"),
        "layers.*.self_attn.q_norm": "heads",
        "layers.*.self_attn.k_norm": "kv_heads",
        "layers.*.post_{attention,feedforward}_layernorm": "hidden",
        "norm": "hidden",
    },
    whole={"num_attention_heads": _SPANS_ALL_HEADS, "num_key_value_heads": _SPANS_ALL_HEADS},
)

# Phi-3 and Phi-4: Llama's layers with fused projections
PHI = replace(
    _DECODER,
    name="Phi-3",
    model_types=("phi3",),
    tensors={
        **without(LLAMA.tensors, "k_proj", "q_proj", "gate_proj"),
        "layers.*.self_attn.qkv_proj": "heads+kv_heads+kv_heads hidden",
        "layers.*.mlp.gate_up_proj": "ffn+ffn hidden",
    },
    turns=True,
)

# mixtures of experts: a router sends each token to a few experts, in some layers or all
_EXPERTS = {
    "layers.*.mlp.gate": "experts hidden",
    "layers.*.mlp.experts.gate_up_proj": "experts expert_ffn+expert_ffn hidden",
    "layers.*.mlp.experts.down_proj": "experts hidden expert_ffn",
}

MIXTRAL = replace(
    _DECODER,
    name="Mixtral",
    model_types=("mixtral",),
    tensors={**without(LLAMA.tensors, ".mlp."), **_EXPERTS},
    sizes={
        **without(LLAMA.sizes, "intermediate_size"),
        "num_experts": "num_local_experts",
        "moe_intermediate_size": "intermediate_size",
    },
)

QWEN_MOE = replace(
    _DECODER,
    name="Qwen3-MoE",
    model_types=("qwen3_moe",),
    tensors={**LLAMA.tensors, **_EXPERTS},
    sizes={
        **LLAMA.sizes,
        "num_experts": "num_local_experts",
        "moe_intermediate_size": "moe_intermediate_size",
    },
    per_layer=("layer_types",),
    dense_layers="mlp_only_layers",
    reset={"decoder_sparse_step": 1},
)
