"""Phi-3 and Phi-4: Llama's layers with fused projections."""

from protege.spaces.families.family import Family
from protege.spaces.families.llama import LLAMA

PHI = Family(
    name="Phi-3",
    model_types=("phi3",),
    tensors={
        **{
            name: axes
            for name, axes in LLAMA.tensors.items()
            if "k_proj" not in name and "q_proj" not in name and "gate_proj" not in name
        },
        "layers.*.self_attn.qkv_proj": "heads+kv_heads+kv_heads hidden",
        "layers.*.mlp.gate_up_proj": "ffn+ffn hidden",
    },
    sizes=LLAMA.sizes,
    stacks=LLAMA.stacks,
    turns=True,
)
