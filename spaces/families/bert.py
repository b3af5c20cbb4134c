"""BERT: post-LN, learned positions, heads tied to the width."""

from protege.spaces.families.family import Family
from protege.spaces.families.heads import BERT_SIZES, CLASSIFIERS

BERT = Family(
    name="BERT",
    model_types=("bert",),
    tensors={
        "embeddings.word_embeddings": "vocab hidden",
        "embeddings.{position,token_type}_embeddings": "place hidden",
        "embeddings.LayerNorm": "hidden",
        "encoder.layer.*.attention.self.{query,key,value}": "heads hidden",
        "encoder.layer.*.attention.output.dense": "hidden heads",
        "encoder.layer.*.attention.output.LayerNorm": "hidden",
        "encoder.layer.*.intermediate.dense": "ffn hidden",
        "encoder.layer.*.output.dense": "hidden ffn",
        "encoder.layer.*.output.LayerNorm": "hidden",
        "pooler.dense": "hidden hidden",
        "cls.predictions.transform.dense": "hidden hidden",
        "cls.predictions.transform.LayerNorm": "hidden",
        "cls.predictions.decoder": "vocab hidden",
        "cls.predictions.bias": "vocab",
        **CLASSIFIERS,
    },
    sizes=BERT_SIZES,
    stacks={"encoder": "encoder.layer.*"},
    refused={"add_cross_attention": "a BERT that attends to another model is half of a pair"},
)
