"""OLMo 2: Llama with norms after attention and feed-forward, and over all queries and keys."""

from protege.spaces.families.family import Family
from protege.spaces.families.llama import LLAMA

_SPANS_ALL_HEADS = (
    "its query and key norms span all heads, so that with fewer of them every other would change"
)

OLMO = Family(
    name="OLMo 2",
    model_types=("olmo2",),
    tensors={
        **{name: axes for name, axes in LLAMA.tensors.items() if "norm" not in name},
        "layers.*.self_attn.q_norm": "heads",
        "layers.*.self_attn.k_norm": "kv_heads",
        "layers.*.post_{attention,feedforward}_layernorm": "hidden",
        "norm": "hidden",
    },
    sizes=LLAMA.sizes,
    stacks=LLAMA.stacks,
    whole={"num_attention_heads": _SPANS_ALL_HEADS, "num_key_value_heads": _SPANS_ALL_HEADS},
)
