"""DINOv2: ViT with a gain on every branch; its classifier reads the class token and the mean."""

from protege.spaces.families.family import Family
from protege.spaces.families.vit import SIZES

DINOV2 = Family(
    name="DINOv2",
    model_types=("dinov2",),
    tensors={
        "embeddings.cls_token": "one one hidden",
        "embeddings.mask_token": "one hidden",
        "embeddings.position_embeddings": "one place hidden",
        "embeddings.patch_embeddings.projection": "hidden colour height width",
        "encoder.layer.*.{norm1,norm2}": "hidden",
        "encoder.layer.*.attention.{q_proj,k_proj,v_proj}": "heads hidden",
        "encoder.layer.*.attention.o_proj": "hidden heads",
        "encoder.layer.*.{layer_scale1,layer_scale2}.lambda1": "hidden",
        "encoder.layer.*.mlp.fc1": "ffn hidden",
        "encoder.layer.*.mlp.fc2": "hidden ffn",
        "layernorm": "hidden",
        "classifier": "label hidden+hidden",
    },
    sizes={name: at for name, at in SIZES.items() if name != "intermediate_size"},
    stacks={"encoder": "encoder.layer.*"},
    refused={"use_swiglu_ffn": "its gated feed-forward has a width that no field can set"},
    ffn_multiple="mlp_ratio",
    derived=("stage_names", "out_features", "out_indices"),
)
