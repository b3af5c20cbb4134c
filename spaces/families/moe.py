"""Mixtures of experts: in some layers or all, a router sends each token to a few of many."""

from protege.spaces.families.family import Family
from protege.spaces.families.llama import LLAMA

_EXPERTS = {
    "layers.*.mlp.gate": "experts hidden",
    "layers.*.mlp.experts.gate_up_proj": "experts expert_ffn+expert_ffn hidden",
    "layers.*.mlp.experts.down_proj": "experts hidden expert_ffn",
}

MIXTRAL = Family(
    name="Mixtral",
    model_types=("mixtral",),
    tensors={
        **{name: axes for name, axes in LLAMA.tensors.items() if ".mlp." not in name},
        **_EXPERTS,
    },
    sizes={
        **{name: at for name, at in LLAMA.sizes.items() if name != "intermediate_size"},
        "num_experts": "num_local_experts",
        "moe_intermediate_size": "intermediate_size",
    },
    stacks=LLAMA.stacks,
)

QWEN_MOE = Family(
    name="Qwen3-MoE",
    model_types=("qwen3_moe",),
    tensors={**LLAMA.tensors, **_EXPERTS},
    sizes={
        **LLAMA.sizes,
        "num_experts": "num_local_experts",
        "moe_intermediate_size": "moe_intermediate_size",
    },
    stacks=LLAMA.stacks,
    per_layer=("layer_types",),
    dense_layers="mlp_only_layers",
    reset={"decoder_sparse_step": 1},
)
