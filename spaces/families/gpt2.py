"""GPT-2, GPT-NeoX and OPT: decoders with LayerNorm and plain feed-forward networks."""

from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS

# GPT-2: pre-LN, learned positions, weights stored as (inputs, outputs)
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

# GPT-NeoX and Pythia: one projection interleaves queries, keys and values by head
GPT_NEOX = Family(
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    tensors={
        "embed_in": "vocab hidden",
        "layers.*.{input,post_attention}_layernorm": "hidden",
        "layers.*.attention.query_key_value": "qkv_heads hidden",
        "layers.*.attention.dense": "hidden heads",
        "layers.*.mlp.dense_h_to_4h": "ffn hidden",
        "layers.*.mlp.dense_4h_to_h": "hidden ffn",
        "final_layer_norm": "hidden",
        "lm_head": "vocab hidden",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"decoder": "layers.*"},
    turns=True,
    stem=("embed_in",),
)

# OPT: learned positions, an embedding that may be narrower than the layers
OPT = Family(
    name="OPT",
    model_types=("opt",),
    tensors={
        "decoder.embed_tokens": "vocab word_embed_proj_dim",
        "decoder.embed_positions": "place hidden",
        "decoder.project_in": "hidden word_embed_proj_dim",
        "decoder.project_out": "word_embed_proj_dim hidden",
        "decoder.layers.*.self_attn.{q_proj,k_proj,v_proj}": "heads hidden",
        "decoder.layers.*.self_attn.out_proj": "hidden heads",
        "decoder.layers.*.{self_attn,final}_layer_norm": "hidden",
        "decoder.layers.*.fc1": "ffn hidden",
        "decoder.layers.*.fc2": "hidden ffn",
        "decoder.final_layer_norm": "hidden",
        "lm_head": "vocab word_embed_proj_dim",
        "{score,qa_outputs}": "label word_embed_proj_dim",
    },
    sizes={**BERT_SIZES, "intermediate_size": "ffn_dim"},
    stacks={"decoder": "decoder.layers.*"},
    as_hidden=("word_embed_proj_dim",),
    outputs="word_embed_proj_dim",
    stem=(*STEM, "decoder.project_in"),
)
