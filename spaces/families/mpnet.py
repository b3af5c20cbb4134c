"""MPNet: BERT with a bias for each head by distance, which all layers share."""

from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS, ROBERTA_LM_HEAD

MPNET = Family(
    name="MPNet",
    model_types=("mpnet",),
    tensors={
        "embeddings.word_embeddings": "vocab hidden",
        "embeddings.position_embeddings": "place hidden",
        "embeddings.LayerNorm": "hidden",
        "encoder.layer.*.attention.attn.{q,k,v}": "heads hidden",
        "encoder.layer.*.attention.attn.o": "hidden heads",
        "encoder.layer.*.attention.LayerNorm": "hidden",
        "encoder.layer.*.intermediate.dense": "ffn hidden",
        "encoder.layer.*.output.dense": "hidden ffn",
        "encoder.layer.*.output.LayerNorm": "hidden",
        "encoder.relative_attention_bias": "bucket encoder.head",
        "pooler.dense": "hidden hidden",
        **ROBERTA_LM_HEAD,
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "encoder.layer.*"},
    shared=("heads",),
    stem=(*STEM, "encoder.relative_attention_bias"),
)
