"""ViT and DeiT: pre-LN encoders of image patches."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import CLASSIFIERS

SIZES = {
    "num_hidden_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "num_attention_heads",
    "head_dim": "head_dim",
    "intermediate_size": "intermediate_size",
}

VIT = Family(
    name="ViT",
    model_types=("vit", "deit"),
    tensors={
        "embeddings.{cls_token,distillation_token,mask_token}": "one one hidden",
        "embeddings.position_embeddings": "one place hidden",
        "embeddings.patch_embeddings.projection": "hidden colour height width",
        "layers.*.attention.{q_proj,k_proj,v_proj}": "heads hidden",
        "layers.*.attention.o_proj": "hidden heads",
        "layers.*.layernorm_{before,after}": "hidden",
        "layers.*.mlp.fc1": "ffn hidden",
        "layers.*.mlp.fc2": "hidden ffn",
        "layernorm": "hidden",
        "pooler.dense": "pooler_output_size hidden",
        **CLASSIFIERS,
    },
    sizes=SIZES,
    stacks={"encoder": "layers.*"},
    turns=True,
    as_hidden=("pooler_output_size",),
)
