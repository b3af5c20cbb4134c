"""Whisper: convolutions over a spectrogram, then BART's layers."""

from protege.spaces.families.bart import BART, LAYERS, SIZES, STACKS
from protege.spaces.families.family import STEM, Family

WHISPER = Family(
    name="Whisper",
    model_types=("whisper",),
    tensors={
        "encoder.conv1": "hidden mel kernel",
        "encoder.conv2": "hidden hidden kernel",
        "decoder.embed_tokens": "vocab hidden",
        "proj_out": "vocab hidden",
        **LAYERS,
    },
    sizes=SIZES,
    stacks=STACKS,
    stem=(*STEM, "encoder.{conv1,conv2}"),
    factors=BART.factors,
)
