"""Encoders of image patches: ViT, DINOv2, SigLIP."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import CLASSIFIERS, LLAMA_SIZES, without

_VIT_SIZES = without(LLAMA_SIZES, "num_key_value_heads", "vocab_size")

# ViT and DeiT: pre-LN encoders of image patches
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
    sizes=_VIT_SIZES,
    stacks={"encoder": "layers.*"},
    turns=True,
    as_hidden=("pooler_output_size",),
)

# DINOv2: ViT with a gain on every branch; the classifier reads class token and mean
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
    sizes=without(_VIT_SIZES, "intermediate_size"),
    stacks={"encoder": "encoder.layer.*"},
    refused={"use_swiglu_ffn": "its gated feed-forward has a width that no field can set"},
    ffn_multiple="mlp_ratio",
    derived=("stage_names", "out_features", "out_indices"),
)

# SigLIP's vision tower: a ViT whose pooler is attention with a learned probe
SIGLIP = Family(
    name="SigLIP",
    model_types=("siglip_vision_model",),
    tensors={
        "embeddings.patch_embedding": "hidden colour height width",
        "embeddings.position_embedding": "place hidden",
        "encoder.layers.*.{layer_norm1,layer_norm2}": "hidden",
        "encoder.layers.*.self_attn.{q_proj,k_proj,v_proj}": "heads hidden",
        "encoder.layers.*.self_attn.out_proj": "hidden heads",
        "encoder.layers.*.mlp.fc1": "ffn hidden",
        "encoder.layers.*.mlp.fc2": "hidden ffn",
        "post_layernorm": "hidden",
        "head.probe": "one one hidden",
        "head.attention.in_proj_weight": "heads+heads+heads hidden",
        "head.attention.in_proj_bias": "heads+heads+heads",
        "head.attention.out_proj": "hidden heads",
        "head.layernorm": "hidden",
        "head.mlp.fc1": "ffn hidden",
        "head.mlp.fc2": "hidden ffn",
    },
    sizes=without(_VIT_SIZES, "head_dim"),
    stacks={"encoder": "encoder.layers.*", "pooler": "head"},
    reads_aside=True,  # the projections of its last attention
)
