"""Llama and the decoders built like it: pre-RMSNorm, rotary positions, gated feed-forward, GQA."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import CLASSIFIERS, LLAMA_SIZES

LLAMA = Family(
    name="Llama",
    model_types=("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite"),
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
    turns=True,
    per_layer=("layer_types", "no_rope_layers"),
    layer_bounds=("max_window_layers",),
)
