"""Llama and the decoders built like it: pre-RMSNorm, rotary positions, gated feed-forward, GQA."""

from protege.spaces.families.family import Family

LLAMA = Family(
    name="Llama",
    model_types=("llama",),
    tensors={
        "embed_tokens": "vocab hidden",
        "layers.*.input_layernorm": "hidden",
        "layers.*.self_attn.q_proj": "heads hidden",
        "layers.*.self_attn.{k_proj,v_proj}": "kv_heads hidden",
        "layers.*.self_attn.o_proj": "hidden heads",
        "layers.*.post_attention_layernorm": "hidden",
        "layers.*.mlp.{gate_proj,up_proj}": "ffn hidden",
        "layers.*.mlp.down_proj": "hidden ffn",
        "norm": "hidden",
        "lm_head": "vocab hidden",
        "score": "label hidden",
    },
    knobs=(
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
    ),
)
