"""GPT-2: pre-LN, learned positions, weights stored as inputs by outputs."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import CLASSIFIERS

GPT2 = Family(
    name="GPT-2",
    model_types=("gpt2",),
    tensors={
        "wte": "vocab hidden",
        "wpe": "place hidden",
        "h.*.{ln_1,ln_2}": "hidden",
        "h.*.attn.c_attn.weight": "hidden heads+heads+heads",
        "h.*.attn.c_attn.bias": "heads+heads+heads",
        "h.*.attn.c_proj.weight": "heads hidden",
        "h.*.attn.c_proj.bias": "hidden",
        "h.*.mlp.c_fc.weight": "hidden ffn",
        "h.*.mlp.c_fc.bias": "ffn",
        "h.*.mlp.c_proj.weight": "ffn hidden",
        "h.*.mlp.c_proj.bias": "hidden",
        "ln_f": "hidden",
        "lm_head": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes={
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "vocab_size": "vocab_size",
    },
    stacks={"decoder": "h.*"},
    turns=True,
    stem=("wte", "wpe"),
    refused={
        "add_cross_attention": "a GPT-2 that attends to another model is half of a pair",
        "scale_attn_by_inverse_layer_idx": "each layer's attention depends on its number",
    },
)
