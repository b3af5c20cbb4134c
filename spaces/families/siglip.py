"""SigLIP's vision tower: a ViT whose last step is one more attention, by a learned probe."""

from protege.spaces.families.family import Family

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
    sizes={
        "num_hidden_layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "num_attention_heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
    },
    stacks={"encoder": "encoder.layers.*", "pooler": "head"},
    reads_aside=True,  # the projections of its last attention
)
