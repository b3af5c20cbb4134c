"""ELECTRA: BERT's layers behind an embedding that may be narrower than they are."""

from protege.spaces.families.bert import BERT
from protege.spaces.families.family import STEM, Family
from protege.spaces.families.heads import BERT_SIZES

ELECTRA = Family(
    name="ELECTRA",
    model_types=("electra",),
    tensors={
        **{
            name: axes
            for name, axes in BERT.tensors.items()
            if not name.startswith(("cls.", "pooler.", "embeddings."))
        },
        "embeddings.word_embeddings": "vocab embedding_size",
        "embeddings.{position,token_type}_embeddings": "place embedding_size",
        "embeddings.LayerNorm": "embedding_size",
        "embeddings_project": "hidden embedding_size",
        "generator_predictions.dense": "embedding_size hidden",
        "generator_predictions.LayerNorm": "embedding_size",
        "generator_lm_head": "vocab embedding_size",
        "discriminator_predictions.dense": "hidden hidden",
        "discriminator_predictions.dense_prediction": "label hidden",
    },
    sizes=BERT_SIZES,
    stacks=BERT.stacks,
    as_hidden=("embedding_size",),
    stem=(*STEM, "embeddings_project"),
    refused=BERT.refused,
)
