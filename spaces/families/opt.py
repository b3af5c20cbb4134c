"""OPT: learned positions, and an embedding that may be narrower than the layers."""

from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES

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
    stem=(*STEM, "decoder.project_in"),
)
