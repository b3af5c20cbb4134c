"""Gemma 2 and 3: four norms a layer with a gain of 1 + weight, embeddings scaled by the width."""

from protege.spaces.families.family import Family, WidthFactor
from protege.spaces.families.llama import LLAMA

GEMMA = Family(
    name="Gemma",
    model_types=("gemma2", "gemma3_text"),
    tensors={
        **LLAMA.tensors,
        "layers.*.{pre,post}_feedforward_layernorm": "hidden",
    },
    sizes=LLAMA.sizes,
    stacks=LLAMA.stacks,
    per_layer=("layer_types",),
    gain_offset=1.0,
    factors=(
        WidthFactor("embed_tokens", 0.5),
        WidthFactor("norm", -0.5, tied_only=True, offset=1.0),
    ),
)
